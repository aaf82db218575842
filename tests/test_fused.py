"Fused layers compute what the layers to read compute, keep what they say, and are really used."
import gc, os, warnings
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef

from conftest import NAME
from snn_repro.analysis.exhibits import asked
from snn_repro.core.spec import UserError
from snn_repro.experiments.tiers import find_tier
from snn_repro.models.resnet19 import ThinResNet19
from snn_repro.models.resnet20 import ThinResNet20
from snn_repro.models.sew import ThinSEWResNet19
from snn_repro.models.small import SmallResNet, SmallSEW, SmallVGG
from snn_repro.models.vgg import ThinVGG
from snn_repro.nn import compiled, kernels
from snn_repro.nn.bits import pack_tensor, pack_spikes, unpack
from snn_repro.nn.compiled import can_compile
from snn_repro.nn.conv_norm_lif import ConvNorm, batchnorm_scale_shift
from snn_repro.nn.fused import HOW, Current, Waiting, fuse
from snn_repro.nn.layers import Folded
from snn_repro.nn.neurons import ENOF_LIF, LIFNode, lif
from snn_repro.training.environment import Runtime
from snn_repro.training.fit import fit
from snn_repro.training.loop import forward

pytestmark = pytest.mark.slow

ARCHS = {'VGG': SmallVGG(), 'residual': SmallResNet(depth=2), 'SEW': SmallSEW(depth=2),
         'ResNet-19, tdBN': ThinResNet19(), 'thin VGG': ThinVGG(),
         'ResNet-20, EnOF': ThinResNet20(neuron=ENOF_LIF), 'SEW-ResNet-19': ThinSEWResNet19(),
         'RepAct': SmallResNet(readout='relu'), 'TEBN': SmallVGG(norm='tebn')}
both = pytest.mark.parametrize('keep', ('maps', 'bits'))
all_three = pytest.mark.parametrize('keep', HOW)
every = pytest.mark.parametrize('name', ARCHS)


@pytest.fixture(scope='module', autouse=True)
def compiler():
    if not can_compile('cpu'): pytest.skip('no compiler here')


def twins(arch, keep, dtype=torch.float32, clip=False, T=4, B=6, size=16):
    torch.manual_seed(0)
    net = arch.build((2, size, size), 10, T).to(dtype)
    images = torch.randn(*([T] if clip else []), B, 2, size, size, dtype=dtype)
    fast = deepcopy(net)
    assert fuse(fast, keep)
    return net, fast, images


def layers(net):
    "Names of LIF layers -> what they sent, filled by the next forward pass."
    sent = {}
    for name, m in net.named_modules():
        if isinstance(m, LIFNode):
            m.register_forward_hook(lambda _, __, s, name=name: sent.__setitem__(name, s.detach()))
    return sent


def passes(net, images, precision='float32'):
    sent, out = layers(net), forward(net, images, precision)
    net.zero_grad()
    nn.functional.cross_entropy(out.logits.mean(0), torch.arange(images.shape[-4]) % 10).backward()
    return out.logits.detach(), sent, {k: p.grad for k, p in net.named_parameters()}


def gap(a, b):
    return {k: ((a[k] - b[k]).double().norm()/a[k].double().norm().clamp_min(1e-30)).item()
            for k in a}


@all_three
@every
def test_the_same_spikes_gradients_and_statistics(name, keep):
    for dtype, clip, limit in ((torch.float64, True, 1e-6), (torch.float32, False, 1e-5)):
        net, fast, images = twins(ARCHS[name], keep, dtype, clip)
        (logits, sent, grads), (logits2, sent2, grads2) = passes(net, images), passes(fast, images)
        assert (sum((sent[k] != sent2[k]).sum().item() for k in sent) == 0 and
                sent.keys() == sent2.keys() and any(s.any() for s in sent.values()))
        assert torch.equal(logits, logits2) and max(gap(grads, grads2).values()) < limit
        assert all(torch.equal(a, b) for a, b in zip(net.buffers(), fast.buffers()))
        assert list(net.state_dict()) == list(fast.state_dict())
        with torch.no_grad(): a, b = net.eval()(images), fast.eval()(images)
        assert (torch.equal(a.logits, b.logits) and
                torch.equal(a.features, b.features)), 'in test mode'


def test_in_test_mode_gradients_pass_too():
    net, fast, images = twins(ARCHS['residual'], 'maps', torch.float64)
    passes(net, images), passes(fast, images)   # statistics that are not those of the start
    (_, _, grads), (_, _, grads2) = passes(net.eval(), images), passes(fast.eval(), images)
    assert max(gap(grads, grads2).values()) < 1e-6


@both
def test_a_gradient_reaches_the_images(keep):
    net, fast, images = twins(ARCHS['residual'], keep, torch.float64, clip=True)
    found = []
    for n in (net, fast):
        x = images.clone().requires_grad_()
        n(x).logits.square().sum().backward()
        found.append(x.grad)
    assert found[0].any() and (found[0] - found[1]).norm() < 1e-6*found[0].norm()


def test_only_what_is_to_be_learnt_gets_a_gradient():
    net, fast, images = twins(ARCHS['residual'], 'bits', torch.float64)
    for n in (net, fast):
        for k, p in n.named_parameters(): p.requires_grad_('branch' in k and 'weight' in k)
        n(images).logits.square().sum().backward()
    pairs = [(p, q) for p, q in zip(net.parameters(), fast.parameters())]
    assert all((p.grad is None) == (q.grad is None) for p, q in pairs)
    assert max((p.grad - q.grad).norm()/p.grad.norm()
               for p, q in pairs if p.grad is not None) < 1e-6


@both
@pytest.mark.parametrize('name', ('VGG', 'residual'))
def test_bfloat16_layer_by_layer(name, keep):
    """One layer of each net, fed the same spikes: nearly the same spikes and gradients. The fused
    current is not rounded to bfloat16."""
    net, fast, images = twins(ARCHS[name], keep)
    _, sent, _ = passes(net, images, 'bf16')
    _, sent2, _ = passes(fast, images, 'bf16')
    first = next(iter(sent))
    assert (sent[first] != sent2[first]).float().mean() < .01
    layer, node = (next(m for m in fast.body.modules() if isinstance(m, kind))
                   for kind in (Waiting, LIFNode))
    def unrounded(y):
        with torch.autocast('cpu', torch.bfloat16): z = nn.Sequential(*layer[:-1])(y.flatten(0, 1))
        return node(layer[-1](z.float()).unflatten(0, y.shape[:2]))
    def fused(y):
        with torch.autocast('cpu', torch.bfloat16): return node(layer(y))
    x, results = sent[first].to(torch.bfloat16), []
    for way in (unrounded, fused):
        y = x.detach().requires_grad_()
        layer.zero_grad()
        s = way(y)
        s.float().square().mean().backward()
        results.append((s.detach(), y.grad.float(),
                        {k: p.grad.clone() for k, p in layer.named_parameters()}))
    (s, dx, dw), (s2, dx2, dw2) = results
    assert (s2.dtype == torch.bfloat16 and s.dtype == torch.float32 and
            (s != s2).float().mean() < 1e-3 and 0 < s.mean() < 1)
    assert (dx - dx2).norm() < .03*dx.norm() and max(gap(dw, dw2).values()) < .03


def alive(net, images):
    "Bytes that are kept for the backward pass, once each, parameters and images apart."
    seen = {}
    def note(t):
        s = t.untyped_storage()
        seen[s.data_ptr()] = StorageWeakRef(s), s.nbytes()
        return t
    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t): out = net(images)
    gc.collect()
    known = {t.untyped_storage().data_ptr() for t in (*net.parameters(), *net.buffers(), images)}
    return sum(n for p, (ref, n) in seen.items() if p not in known and not ref.expired()), out


def test_what_is_kept():
    arch = SmallResNet(channels=(16, 32), depth=2)
    net, fast, images = twins(arch, 'maps')
    least = deepcopy(net)
    fuse(least, 'bits')
    ann = arch.ann().build((2, 16, 16), 10, 1)
    plain, maps, bits, twin = (alive(n, x)[0] for n, x in (
        (net, images), (fast, images), (least, images), (ann, images.repeat(4, 1, 1, 1))))
    assert maps < .6*twin < .6*plain and bits < .1*twin, (plain/twin, maps/twin, bits/twin)


def test_nothing_falls_back_silently(monkeypatch):
    def eager(*_): raise AssertionError('an eager kernel was used')
    monkeypatch.setattr(kernels, '_membranes', eager)
    monkeypatch.setattr(Folded, 'forward', lambda self, x: eager() if 'stem' not in self.where
                        else nn.Sequential.forward(self, x.flatten(0, 1)).unflatten(0, x.shape[:2]))
    for name in ('VGG', 'residual', 'SEW', 'ResNet-20, EnOF'):
        arch = ARCHS[name]
        _, fast, images = twins(arch, 'maps')
        for k, m in fast.named_modules(): m.where = k
        heads = [m for m in fast.modules() if isinstance(m, Folded) and not isinstance(m, Waiting)]
        for m in heads: m.where += ' stem'   # pooling before the classifier and the like
        fast(images).logits.sum().backward()
        assert sum(isinstance(m, Waiting) for m in fast.modules()) > 2


def test_without_a_compiler_the_net_stays_as_it_was(monkeypatch):
    def broken(*_): raise RuntimeError('no compiler')
    monkeypatch.setattr(compiled, '_ahead', broken)
    for f in (can_compile, compiled._for_shapes): f.cache_clear()
    net = SmallResNet().build((1, 12, 12), 10, 2)
    try:
        with pytest.warns(UserWarning, match='layers are not compiled'): assert not fuse(net)
    finally:
        for f in (can_compile, compiled._for_shapes): f.cache_clear()
    assert (not any(isinstance(m, Waiting) for m in net.modules()) and
            all(m.kernel is kernels.fused_lif for m in net.modules() if isinstance(m, LIFNode)))
    net(torch.randn(2, 1, 12, 12)).logits.sum().backward()


def test_an_unknown_keep_is_refused():
    with pytest.raises(UserError, match="unknown keep 'all'"):
        fuse(SmallResNet().build((1, 12, 12), 10, 2), 'all')


def test_a_current_is_a_tensor_to_everything_but_a_neuron():
    net, fast, images = twins(SmallResNet(), 'maps', torch.float64)
    plain, waiting = next((a, b) for a, b in zip(net.body.modules(), fast.body.modules())
                          if isinstance(b, Waiting))
    x = (torch.rand(4, 6, plain[-2].in_channels if len(plain) > 1 else 8, 8, 8) < .3).double()
    y = plain.eval()(x)
    fast.eval()
    for use in (torch.relu, lambda c: c*2, lambda c: 2*c, lambda c: c - 1, lambda c: c[0],
                lambda c: c.mean(), lambda c: torch.stack([c, c]), lambda c: c.flatten(1),
                lambda c: (c + y).relu(), lambda c: (y + c).relu(), lambda c: torch.stack(list(c)),
                lambda c: -c):
        got = waiting(x)
        assert isinstance(got, Current) and torch.equal(use(got), use(y))
    assert len(waiting(x)) == 4 and waiting(x).shape == y.shape


def layer_and_node(dtype=torch.float32):
    """A fused layer `folded` and its neuron, in test mode, the layer as it is to be read, spikes
    for it, and a drawn tensor of its output's shape."""
    net, fast, _ = twins(SmallResNet(), 'maps', dtype)
    plain, waiting = next((a, b)
                          for a, b in zip(net.eval().body.modules(), fast.eval().body.modules())
                          if isinstance(b, Waiting))
    x = (torch.rand(4, 6, 8, 8, 8) < .3).to(dtype)
    return (plain, waiting, next(m for m in fast.modules() if isinstance(m, LIFNode)), x,
            torch.randn(plain(x).shape).to(dtype))


@pytest.mark.parametrize('whole', (torch.bool, torch.int64), ids=str)
def test_whole_numbers_beside_a_current_are_computed_as_floats(whole):
    plain, waiting, node, x, y = layer_and_node()
    c = (2*y).abs().to(whole)
    want = lif(plain(x) + c.float(), node.p)
    for current in (waiting(x) + c, c + waiting(x)):
        assert torch.equal(node(current), want) and want.any()
    assert torch.equal(node(c), lif(c.float(), node.p)), 'alone'


def test_a_current_that_is_not_a_number_does_not_fire():
    plain, waiting, node, x, y = layer_and_node()
    x[1, 0, 0, 0, 0] = torch.nan
    want = lif(plain(x), node.p)
    assert (torch.equal(node(waiting(x)), want) and want.any() and plain(x).isnan().any() and
            not want[1][plain(x)[1].isnan()].any())


def test_a_current_that_was_looked_at_is_not_computed_twice():
    net, fast, images = twins(SmallResNet(), 'maps')
    for n in (net, fast):
        for m in n.modules():
            if isinstance(m, LIFNode): m.store_v_seq = True
        n(images)
    assert all(torch.equal(a, b) for a, b in zip(net.buffers(), fast.buffers()))
    assert all(torch.equal(a.v_seq, b.v_seq)
               for a, b in zip(net.modules(), fast.modules()) if isinstance(a, LIFNode))


def test_spikes_that_were_changed_are_packed_again():
    _, fast, images = twins(SmallResNet(), 'maps', torch.float64)
    net, *_ = twins(SmallResNet(), 'maps', torch.float64)
    for n in (net, fast):
        n.body[0].register_forward_hook(lambda _, __, s: s.mul(3.).detach_().requires_grad_()
                                        if False else s.clone().mul_(3.))
        n(images).logits.square().sum().backward()
    assert max(gap({k: p.grad for k, p in net.named_parameters()},
                   {k: p.grad for k, p in fast.named_parameters()}).values()) < 1e-6


@pytest.mark.parametrize('dtype', (torch.float32, torch.float64, torch.bfloat16))
def test_packed_tensors_come_back(dtype):
    chance = torch.Generator().manual_seed(0)
    for shape in ((4, 2, 16, 4, 4), (3, 5, 7), (512,), (1, 1, 512)):
        s = (torch.rand(shape, generator=chance) < .3).to(dtype)
        if len(shape) == 5: s = s.permute(0, 1, 4, 2, 3)
        others = s, s*255, s*256, s + .5, s - 1, s.log()
        for x, how in ((s, pack_spikes), *((x, pack_tensor) for x in others)):
            p = how(x)
            assert (torch.equal(unpack(p), x) and unpack(p).stride() == x.stride() and
                    unpack(p).dtype == dtype)
    assert (pack_spikes(torch.ones(4, 512)).codes.dtype == torch.int32 and
            pack_tensor(torch.full((9,), 255.)).codes.dtype == torch.uint8)


@both
def test_a_run_may_be_fused(tmp_path, keep):
    e = asked(NAME, find_tier('mini'))[1]
    e = replace(e, recipe=replace(e.recipe, epochs=2))
    slow, fast = fit(e, tmp_path/'slow'), fit(e, tmp_path/'fast', Runtime(fuse=keep))
    assert (slow.env['fused'], fast.env['fused']) == (None, keep) and slow.id == fast.id
    assert abs(slow.history.ce[0] - fast.history.ce[0]) < 1e-3
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        fit(e, tmp_path/'again', Runtime(fuse=keep))
    assert ((tmp_path/'again'/e.id/'weights.safetensors').read_bytes() ==
            (tmp_path/'fast'/e.id/'weights.safetensors').read_bytes()), 'the same bytes each time'


# where PyTorch multiplies and adds in one instruction, and no jitter is played
ONE_ROUNDING = (torch.backends.cpu.get_cpu_capability() in ('AVX2', 'AVX512')
                and not os.environ.get('SNN_REPRO_JITTER'))


@pytest.mark.parametrize('training', (True, False))
def test_the_line_is_batch_normalisation_to_the_last_bits(training):
    chance = torch.Generator().manual_seed(0)
    for B, C, size in ((32, 16, 32), (8, 64, 8), (5, 10, 3), (16, 24, 7)):
        norm = nn.BatchNorm2d(C).train(training)
        for t in (*norm.parameters(), norm.running_mean, norm.running_var):
            t.data.copy_(.5 + torch.rand(C, generator=chance))
        drive = ConvNorm(Folded(nn.Conv2d(C, C, 1, bias=False), deepcopy(norm)))
        z = (3*torch.randn(B, C, size, size, generator=chance) + 1).contiguous(
            memory_format=torch.channels_last)
        with torch.no_grad():
            y, (mean, inverse) = norm(z), drive.statistics(z)
            line = batchnorm_scale_shift(*drive.weights()[-2:], mean, inverse)
        scale, shift, mean, bias = (t.double().view(1, -1, 1, 1)
                                    for t in (*line, mean, norm.bias.detach()))
        once, terms = z*scale + shift, (z*scale).abs() + (mean*scale).abs() + bias.abs()
        assert ((once - y).abs() <= 2**-21*terms).all()
        pairs = [(once.float(), y), *zip(norm.buffers(), drive.norm.buffers())]
        for a, b in pairs[1:]: torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)
        if ONE_ROUNDING: assert all(torch.equal(a, b) for a, b in pairs)
