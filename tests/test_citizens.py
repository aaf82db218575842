"""Nets are good citizens of PyTorch: saved, copied, pickled, compiled and exported, fused or not.
SpikingJelly's tools see them, or say why not."""
import copy, io, pickle

import pytest
import torch
from spikingjelly.activation_based import functional, monitor, neuron
from spikingjelly.activation_based.op_counter import (
    DispatchCounterMode, MACCounter, NeuronStateCounter)
from torch import fx, nn

from conftest import RELEASE
from snn_repro.bench.baselines import as_spikingjelly
from snn_repro.core.spec import UserError
from snn_repro.models.resnet19 import ThinResNet19
from snn_repro.models.resnet20 import ThinResNet20
from snn_repro.models.sew import ThinSEWResNet19
from snn_repro.models.small import SmallResNet, SmallSEW, SmallVGG
from snn_repro.models.vgg import ThinVGG
from snn_repro.nn.compiled import can_compile
from snn_repro.nn.fused import fuse
from snn_repro.nn.layers import Output
from snn_repro.nn.neurons import ENOF_LIF, LIF, TKS_LIF, LIFNode, Sigmoid, lif

SMALL = {'VGG': SmallVGG(channels=(4, 8)), 'residual': SmallResNet(channels=(4, 8)),
         'SEW': SmallSEW(channels=(4, 8))}
RESNET19 = ThinResNet19(neuron=LIF(decay_input=True, v_threshold=.05))   # so its hidden layer fires
ARCHS = SMALL | {'ResNet-19': RESNET19, 'ResNet-20': ThinResNet20(neuron=ENOF_LIF),
                 'SEW-19': ThinSEWResNet19(), 'VGG-SNN': ThinVGG(), 'TEBN': SmallVGG(norm='tebn'),
                 'ANN': SmallResNet().ann()}
every = pytest.mark.parametrize('name', ARCHS)
fused_or_not = pytest.mark.parametrize('keep', (None, 'maps', 'bits', 'blocks'))


def build(arch, keep=None, dtype=torch.float64, size=16, T=4, B=3):
    "A net, fused as `keep` says, and images for it."
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = arch.build((2, size, size), 5, T).to(dtype)
        images = torch.randn(B, 2, size, size, dtype=dtype)
    if keep and not (can_compile('cpu') and fuse(net, keep)): pytest.skip('no compiler here')
    return net, images


def through_file(net):
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


WAYS = {f'pickle {p}': lambda net, p=p: pickle.loads(pickle.dumps(net, protocol=p))
        for p in range(pickle.HIGHEST_PROTOCOL + 1)}
WAYS |= {'torch.save': through_file, 'deepcopy': copy.deepcopy}

@fused_or_not
@every
def test_copies_are_the_same_net(name, keep):
    net, images = build(ARCHS[name], keep)
    state, kinds = net.state_dict(), [type(m) for m in net.modules()]
    for way, through in WAYS.items():
        twin = through(net)
        assert [type(m) for m in twin.modules()] == kinds, way
        assert not {*map(id, twin.modules())} & {*map(id, net.modules())}, way
        copied = twin.state_dict()
        assert all(torch.equal(a, b) for a, b in zip(copied.values(), state.values(), strict=True))
        assert list(copied) == list(state)
        for m in twin.modules():
            if not hasattr(m, 'drive'): continue
            assert m.drive.norm in [*m], f'{way}: its own weights'
            assert m.drive.conv is None or m.drive.conv in [*m], f'{way}: its own weights'


@pytest.mark.slow
@pytest.mark.parametrize('keep', (None, 'maps'))
def test_a_copy_computes_the_same(keep):
    net, images = build(SMALL['residual'], keep)
    twins = [through(net) for through in WAYS.values()]
    want = net(images)
    want.logits.square().sum().backward()
    for twin in twins:
        out = twin(images)
        out.logits.square().sum().backward()
        assert torch.equal(out.logits, want.logits)
        assert all(torch.equal(p.grad, q.grad) for p, q in zip(net.parameters(), twin.parameters()))
    other, _ = build(SMALL['residual'])
    other.load_state_dict(twins[0].state_dict())
    assert torch.equal(other(images).logits, net(images).logits)


def gradients(net, images):
    out = net(images)
    net.zero_grad()
    nn.functional.cross_entropy(out.logits.mean(0), torch.arange(len(images)) % 5).backward()
    return out, {k: p.grad.clone() for k, p in net.named_parameters()}


def compiled_is_eager(arch, dynamic, backend, keep=None):
    """In training: all spikes and logits, gradients to rounding in float64, statistics.
    And again with another batch size. One graph."""
    torch._dynamo.reset()
    eager, images = build(arch)
    net, _ = build(arch, keep)
    fast = torch.compile(net, dynamic=dynamic, backend=backend, fullgraph=True)
    for x in (images, images[:2]):
        (out, grads), (out2, grads2) = gradients(eager, x), gradients(fast, x)
        grads2 = {k.removeprefix('_orig_mod.'): g for k, g in grads2.items()}
        assert isinstance(out2, Output) and torch.equal(out.features, out2.features)
        assert 0 < out.features.mean()
        assert torch.allclose(out.logits, out2.logits, rtol=1e-10, atol=1e-10)
        assert all((grads[k] - g).norm() <= 1e-10*grads[k].norm() for k, g in grads2.items())
        assert any(g.any() for g in grads.values())
        assert all(torch.allclose(a, b)
                   for a, b in zip(eager.buffers(), net.buffers(), strict=True))


def takes_minutes(*case):
    skipped = pytest.mark.skipif(not RELEASE, reason='takes minutes')
    return pytest.param(*case, marks=[pytest.mark.release, skipped])


@pytest.mark.slow
@pytest.mark.parametrize('name, dynamic', [
    ('residual', None), takes_minutes('residual', False), takes_minutes('residual', True),
    *(takes_minutes(name, None) for name in (*SMALL, 'ResNet-19', 'TEBN') if name != 'residual')])
def test_nets_are_traced_whole_and_train_as_they_do_otherwise(name, dynamic):
    compiled_is_eager(ARCHS[name], dynamic, 'aot_eager')


@pytest.mark.slow
@pytest.mark.parametrize('keep', ('maps', takes_minutes('blocks')))
def test_fused_nets_are_compiled_as_the_nets_they_were(keep):
    compiled_is_eager(SMALL['residual'], None, 'aot_eager', keep)


@pytest.mark.parametrize('neuron', [
    takes_minutes(TKS_LIF), takes_minutes(ENOF_LIF),
    LIF(surrogate=Sigmoid(), detach_reset=False)], ids=('TKS', 'EnOF', 'sigmoid'))
def test_every_neuron_is_traced(neuron):
    compiled_is_eager(SmallVGG(channels=(4, 8), neuron=neuron), None, 'aot_eager')


@pytest.mark.parametrize('name, dynamic', [
    takes_minutes('residual', False),
    *(takes_minutes(name, None) for name in SMALL)])
def test_compiled_nets_train_as_they_do_otherwise(name, dynamic):
    if not can_compile('cpu'): pytest.skip('no compiler here')
    compiled_is_eager(ARCHS[name], dynamic, 'inductor')


def test_a_traced_membrane_that_is_not_a_number_does_not_fire():
    x = torch.randn(6, 50, generator=torch.Generator().manual_seed(0)).double()
    x[2, ::2] = torch.nan
    x[2, 1] = torch.inf
    traced = torch.compile(TKS_LIF.build(), backend='aot_eager', fullgraph=True)
    for y in (x, x.clone().requires_grad_()): assert torch.equal(traced(y), lif(x, TKS_LIF))
    again = torch.compile(TKS_LIF.build(), backend='aot_eager', fullgraph=True)
    whole = torch.arange(30).view(6, 5) % 3
    assert torch.equal(again(whole), lif(whole.float(), TKS_LIF))


@pytest.mark.slow
@pytest.mark.parametrize('keep', (None, 'maps'))
@pytest.mark.parametrize('name', SMALL)
def test_an_exported_net_is_saved_and_loaded(tmp_path, name, keep):
    net, images = build(SMALL[name], keep)
    net.eval()
    with torch.no_grad(): torch.export.save(torch.export.export(net, (images,)), tmp_path/'net.pt2')
    out, want = torch.export.load(tmp_path/'net.pt2').module()(images), net(images)
    assert isinstance(out, Output)
    assert torch.equal(out.logits, want.logits) and torch.equal(out.features, want.features)


def test_images_of_bytes_are_refused():
    net, images = build(SMALL['VGG'])
    with pytest.raises(UserError, match='found torch.uint8'): net(images.to(torch.uint8))


TWINS = {'VGG': SmallVGG(), 'residual, EnOF': SmallResNet(neuron=ENOF_LIF, depth=2),
         'SEW': SmallSEW(), 'TEBN': SmallVGG(norm='tebn'), 'ResNet-19': ThinResNet19()}

@pytest.mark.parametrize('name', TWINS)
def test_as_layers_of_spikingjelly_a_net_gives_the_same_logits(name):
    net, _ = build(TWINS[name])
    clip = torch.randn(4, 3, 2, 16, 16, generator=torch.Generator().manual_seed(1)).double()
    theirs = as_spikingjelly(net)
    G = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(2)).double()
    assert not any(isinstance(m, LIFNode) for m in theirs.modules())
    assert any(type(m) is neuron.LIFNode for m in theirs.modules())
    want, logits = net(clip).logits, theirs(clip)
    want.backward(G), logits.backward(G)
    # all spikes alike; sums may be taken in another order
    assert (logits - want).abs().max() < 1e-9 < want.std()
    assert all((p.grad - q.grad).norm() <= 1e-9*p.grad.norm()
               for p, q in zip(net.parameters(), theirs.parameters(), strict=True))
    functional.reset_net(theirs)
    with torch.no_grad(): assert (theirs.eval()(clip) - net.eval()(clip).logits).abs().max() < 1e-9


class LeavesOfOthers(fx.Tracer):
    """Goes into our modules and containers.
    The layers of PyTorch and SpikingJelly are leaves, as for an exporter."""
    def is_leaf_module(self, m, name):
        return not m.__module__.startswith('snn_repro') and not isinstance(m, nn.Sequential)

@pytest.mark.parametrize('name', ('VGG', 'SEW'))
def test_an_exporter_can_trace_the_layers(name):
    net, _ = build(TWINS[name])
    clip = torch.randn(4, 3, 2, 16, 16, generator=torch.Generator().manual_seed(1)).double()
    theirs = as_spikingjelly(net).eval()
    graph = fx.GraphModule(theirs, LeavesOfOthers().trace(theirs))
    kinds = {type(graph.get_submodule(n.target)).__module__.split('.')[0]
             for n in graph.graph.nodes if n.op == 'call_module'}
    assert kinds <= {'spikingjelly', 'torch'}
    with torch.no_grad(): assert torch.equal(graph(clip), net.eval()(clip).logits)


def test_spikingjellys_counter_of_states_is_refused_and_counts_the_layers_of_spikingjelly():
    net, _ = build(SmallVGG())
    clip = torch.randn(4, 3, 2, 16, 16, generator=torch.Generator().manual_seed(1)).double()
    with torch.no_grad():
        words = 'NeuronStateCounter would count nothing.*as_spikingjelly'
        with DispatchCounterMode([NeuronStateCounter()]), pytest.raises(UserError, match=words):
            net(clip)
        states, macs = NeuronStateCounter(), MACCounter()
        with DispatchCounterMode([states]): as_spikingjelly(net)(clip)
        with DispatchCounterMode([macs]): net(clip)
    assert states.get_total() > 0 and macs.get_total() > 0


@pytest.mark.parametrize('v', (.3, torch.full((3, 2), .3), torch.tensor(torch.nan)))
def test_a_membrane_that_was_set_is_refused(v):
    node, x = TKS_LIF.build(), torch.ones(4, 3, 2)
    node.v = v
    with pytest.raises(UserError, match='the membrane v was set, but every call starts at 0'):
        node(x)
    node.v = torch.zeros(3, 2)
    assert torch.equal(node(x), lif(x, TKS_LIF))
    functional.reset_net(node)
    assert torch.equal(node(x), lif(x, TKS_LIF))


def test_a_node_is_made_of_a_setting():
    for p in (2., None, LIF):
        with pytest.raises(UserError, match='expected a LIF'): LIFNode(p)
    assert LIFNode(tau=4.).p == LIF(tau=4.) and 'tau=4.0' in repr(LIFNode(tau=4.))
    with pytest.raises(UserError, match="unknown key 'tua'"): LIFNode(tua=4.)
    with pytest.raises(UserError, match='not both'): LIFNode(LIF(), tau=4.)


@pytest.mark.parametrize('keep', (None, 'maps'))
def test_monitors_of_outputs_and_membranes_see_the_nodes(keep):
    net, images = build(SMALL['residual'], keep)
    nodes = {n: m for n, m in net.named_modules() if isinstance(m, LIFNode)}
    for m in nodes.values(): m.store_v_seq = True
    with (monitor.OutputMonitor(net, LIFNode) as spikes,
          monitor.AttributeMonitor('v_seq', False, net, LIFNode) as membranes, torch.no_grad()):
        out = net(images)
    assert spikes.monitored_layers == membranes.monitored_layers == [*nodes]
    for n in nodes:
        (s,), (v,) = spikes[n], membranes[n]
        assert s.shape == v.shape and not v[s > 0].any() and s.any() and (v <= .5).all()
    assert torch.equal(spikes[[*nodes][-1]][0].flatten(2), out.features)
