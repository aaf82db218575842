"What is too dull for chapters 1.2 and 1.4: many shapes, keys, copies, precision, errors."
import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from snn_repro.core.spec import UserError
from snn_repro.models.small import SmallResNet, SmallSEW, SmallVGG
from snn_repro.nn.layers import TDBN, TEBN, Arch, Folded, Output, SpikingNet
from snn_repro.nn.neurons import ENOF_LIF, TET_LIF, TKS_LIF, ReLU

ARCHS = [SmallVGG(), SmallVGG(channels=(5,)), SmallVGG(channels=(8, 16, 16, 32)), SmallResNet(),
         SmallResNet(depth=2), SmallSEW(), SmallSEW(depth=2, channels=(4, 6))]
ids = lambda a: a.to_json() if isinstance(a, Arch) else str(a)


@pytest.fixture(autouse=True)
def _same_chance():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def build(arch, shape=(1, 16, 16), classes=10, T=3, seed=0):
    torch.manual_seed(seed)
    return arch.build(shape, classes, T)


@pytest.mark.parametrize('arch', ARCHS, ids=ids)
@pytest.mark.parametrize('shape', [(1, 16, 16), (3, 9, 14), (2, 11, 8)])
@pytest.mark.parametrize('T', [1, 3])
def test_shapes_and_gradients(arch, shape, T):
    for a in (arch, replace(arch, readout='relu'), arch.ann()):
        net = build(a, shape, 7, T)
        for x in (torch.rand(4, *shape), torch.rand(T, 4, *shape)):
            out = net(x)
            assert isinstance(out, Output) and out.logits.shape == (T, 4, 7)
            assert out.features.shape == (T, 4, net.classifier.in_features)
            assert torch.allclose(net.classifier(out.features), out.logits)
        out.logits.sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize('arch', ARCHS, ids=ids)
def test_setting_round_trip(arch):
    for a in (arch, replace(arch, neuron=ENOF_LIF, readout='relu'), replace(arch, neuron=TET_LIF),
              arch.ann()):
        assert Arch.from_dict(a.to_dict()) == a and type(Arch.from_dict(a.to_dict())) is type(arch)
    assert isinstance(arch.ann().neuron, ReLU) and arch.ann().ann() == arch.ann()
    assert replace(arch.ann(), neuron=arch.neuron, readout=arch.readout) == arch


@pytest.mark.parametrize('arch', ARCHS, ids=ids)
def test_weights_move_between_twins(arch):
    nets = [build(a, seed=i) for i, a in enumerate((arch, replace(arch, readout='relu'), arch.ann(),
                                                    replace(arch, neuron=ENOF_LIF)))]
    for net in nets[1:]:
        net.load_state_dict(nets[0].state_dict())
    shapes = [{k: v.shape for k, v in n.state_dict().items()} for n in nets]
    assert (all(s == shapes[0] for s in shapes) and
            not any('lif' in k or '.v' in k for k in shapes[0]))


@pytest.mark.parametrize('arch', ARCHS, ids=ids)
def test_no_state_between_batches(arch):
    net = build(arch).eval()
    x = torch.rand(4, 1, 16, 16)
    first = net(x).logits
    net(torch.rand(6, 1, 16, 16)).logits.sum().backward()
    assert torch.equal(net(x).logits, first)
    assert torch.equal(copy.deepcopy(net)(x).logits, first)
    assert build(arch, seed=1).eval()(x).logits.sub(first).abs().max() > 0


@pytest.mark.parametrize('arch', ARCHS, ids=ids)
def test_ann_of_a_still_image_is_the_same_at_every_step(arch):
    out = build(arch.ann(), T=3).double()(torch.rand(4, 1, 16, 16).double())
    assert torch.allclose(out.logits[0], out.logits[2], atol=1e-9)


def test_readout_places():
    for arch in (SmallVGG(readout='relu'), SmallResNet(readout='relu'), SmallSEW(readout='relu')):
        net = build(arch)
        relus = [n for n, m in net.named_modules() if isinstance(m, nn.ReLU)]
        assert relus == [
            {SmallVGG: 'body.4', SmallResNet: 'body.2.last', SmallSEW: 'body.2.last'}[type(arch)]]


def test_read_out_of_the_sew_net_is_before_the_sum():
    net, seen = build(SmallSEW(readout='relu', channels=(4, 6)), (1, 8, 8)), {}
    block = net.body[1]
    block.last.register_forward_hook(lambda m, i, o: seen.update(relu=o))
    block.shortcut.register_forward_hook(lambda m, i, o: seen.update(spikes=o))
    out = net(torch.rand(4, 1, 8, 8))
    assert set(seen['spikes'].unique().tolist()) <= {0, 1} and (seen['relu'] >= 0).all()
    assert torch.allclose(out.features, (seen['relu'] + seen['spikes']).flatten(2))


@pytest.mark.parametrize('T', [0, -1, 2.0, None])
@pytest.mark.parametrize('arch', [SmallVGG(), SmallResNet(), SmallSEW()], ids=ids)
def test_bad_T(arch, T):
    with pytest.raises(UserError, match='T = '): build(arch, T=T)


@pytest.mark.parametrize('make, says', [
    (lambda: build(SmallVGG(), (1, 3, 16)), '3x16'),
    (lambda: build(SmallResNet(), (1, 16, 2)), '16x2'),
    (lambda: SmallVGG(channels=()), 'channels'), (lambda: SmallVGG(channels=(8, 0)), 'channels'),
    (lambda: SmallResNet(channels=(8,)), 'channels'),
    (lambda: SmallSEW(depth=0), 'depth'), (lambda: SmallVGG(readout='spike'), "readout 'spike'"),
    (lambda: SmallVGG(norm='tdbn'), "norm 'tdbn'"), (lambda: SmallSEW(norm='x'), "norm 'x'"),
    (lambda: build(SmallVGG())(torch.rand(4, 2, 16, 16)), 'expected 1 channels, found 2'),
    (lambda: build(SmallVGG())(torch.rand(16, 16)), r'found \[16, 16\]'),
    (lambda: build(SmallVGG())(torch.rand(0, 4, 1, 16, 16)), 'at least one'),
    (lambda: build(SmallVGG())(torch.rand(4, 1, 8, 8)), '128 features'),
    (lambda: TEBN(4, T=2)(torch.rand(3, 1, 4, 2, 2)), 'at most 2 steps, found 3'),
    (lambda: SpikingNet(nn.Sequential(Folded(nn.Conv2d(1, 4, 1)), TEBN(4, 2)), nn.Identity(),
                        nn.Linear(4, 2), 2), 'TEBN'),
])
def test_kind_errors(make, says):
    with pytest.raises(UserError, match=says): make()


def test_spec_file_with_a_wrong_width():
    with pytest.raises(UserError, match='channels'):
        Arch.from_dict({'type': 'SmallVGG', 'channels': [8, 'x']})


@pytest.mark.parametrize('make', [lambda: TDBN(4, .5), lambda: TDBN(4, 1., .5 ** .5)])
def test_tdbn_is_batch_norm_with_a_start_value(make):
    a, b, x = make(), nn.BatchNorm2d(4), torch.randn(6, 4, 3, 3)
    assert list(a.state_dict()) == list(b.state_dict())
    y = a(x)
    assert torch.allclose(y, b(x) * a.weight.view(1, -1, 1, 1), atol=1e-6)
    assert torch.equal(a.running_var, b.running_var)


def test_tebn_starts_as_batch_norm_and_takes_one_step():
    x = torch.randn(3, 5, 4, 2, 2)
    assert torch.allclose(TEBN(4, 3)(x), Folded(nn.BatchNorm2d(4))(x))
    assert TEBN(4, 3)(x[:1]).shape == (1, 5, 4, 2, 2)
    net = SpikingNet(Folded(nn.Conv2d(1, 4, 1)),
                     nn.Sequential(TEBN(4, 3), TKS_LIF.build(), Folded(nn.Flatten())),
                     nn.Linear(4 * 4, 2), 3)
    assert net(torch.rand(5, 1, 2, 2)).logits.shape == (3, 5, 2)


def test_folded_keeps_values_of_any_rank_and_half_precision():
    x = torch.randn(3, 5, 7)
    assert torch.equal(Folded(nn.Flatten())(x), x)
    with torch.autocast('cpu', torch.bfloat16):
        out = build(SmallVGG())(torch.rand(4, 1, 16, 16))
    assert out.logits.isfinite().all() and set(out.features.unique().tolist()) <= {0, 1}


def test_maps_stay_channels_last():
    seen = []
    for arch in (SmallVGG(), SmallResNet(), SmallSEW()):
        net = build(arch, (2, 16, 16))
        for m in net.modules():
            if isinstance(m, (nn.Conv2d, nn.BatchNorm2d, nn.AvgPool2d)):
                m.register_forward_hook(lambda m, i, o: seen.append(
                    i[0].is_contiguous(memory_format=torch.channels_last)))
        net(torch.rand(4, 2, 16, 16)), net(torch.rand(3, 4, 2, 16, 16))
    assert seen and all(seen)


@pytest.mark.parametrize('c_in', [1, 4, 15])
def test_thin_strided_1x1_convolutions_stay_in_the_ordinary_order(c_in):
    "oneDNN issue 6035: in channels-last order their backward pass writes beyond its memory."
    thin, wide = Folded(nn.Conv2d(c_in, 6, 1, stride=2)), Folded(nn.Conv2d(16, 6, 1, stride=2))
    assert thin.order is torch.contiguous_format and wide.order is torch.channels_last
    seen = []
    thin[0].register_forward_hook(lambda m, i, o: seen.append(i[0].is_contiguous()))
    x = torch.rand(2, 3, 8, 8, c_in).movedim(-1, 2)                       # channels-last on arrival
    thin(x).sum().backward()
    assert all(seen) and thin[0].weight.grad.isfinite().all()
