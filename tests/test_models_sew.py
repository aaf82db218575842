"""Chapter 3.4's nets against SpikingJelly's, output for output; weights there and back; shapes,
twins, norms, errors."""
import functools
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from spikingjelly.activation_based.model import sew_resnet
from torch import nn

from nets import build, compare, constants, ids, same_chance, share   # noqa: F401
from snn_repro.core.spec import UserError
from snn_repro.models.blocks import normed
from snn_repro.models.sew import (SEWBlock, SEWResNet18, SEWResNet19, SEWResNet34, SEWResNet50,
                                  ThinSEWResNet18, ThinSEWResNet19, from_spikingjelly,
                                  load_spikingjelly, sew_block, sew_to_spikingjelly,
                                  spikingjelly_names)
from snn_repro.nn.layers import NORMS, TDBN, TEBN, Arch
from snn_repro.nn.neurons import LIF, ATan, ReLU, Sigmoid

SAME = LIF(surrogate=ATan())
FULL = {SEWResNet18: sew_resnet.sew_resnet18, SEWResNet34: sew_resnet.sew_resnet34,
        SEWResNet50: sew_resnet.sew_resnet50}
THIN = [ThinSEWResNet19(), ThinSEWResNet18(),
        SEWResNet50(channels=(4, 4, 8, 8), depths=(2, 1, 1, 1))]


def theirs_of(p):
    "SpikingJelly's neuron with the constants of `p`."
    return dict(spiking_neuron=neuron.LIFNode,
                **constants(p)) if isinstance(p, LIF) else dict(spiking_neuron=nn.ReLU)


def theirs(make, classes=7, seed=1):
    torch.manual_seed(seed)
    net = make(cnf='ADD', num_classes=classes, **theirs_of(SAME))
    functional.set_step_mode(net, 'm')
    return net


@functools.cache
def known(kind):
    "SpikingJelly's keys and shapes of a net, and the net's state."
    with torch.random.fork_rng(): return theirs(FULL[kind]).state_dict()


@pytest.mark.parametrize('kind', FULL, ids=lambda k: k.__name__)
def test_equal_to_spikingjelly(kind):
    arch, other = kind(neuron=SAME), theirs(FULL[kind])
    mine = build(arch, (3, 64, 64))
    mine.load_state_dict(from_spikingjelly(other.state_dict(), arch))
    mine, other, clip = mine.double(), other.double(), torch.randn(2, 2, 3, 64, 64).double()
    for m in (*mine.modules(), *other.modules()):
        # so that the net is alive in test mode too
        if isinstance(m, nn.BatchNorm2d): m.momentum = 1.
    y, z = mine(clip).logits, other(clip)
    assert torch.allclose(y, z, atol=1e-8) and z.std() > 1e-3
    there = sew_to_spikingjelly(mine.state_dict(), arch)
    assert list(there) == list(other.state_dict())
    # the running statistics as well
    assert all(torch.allclose(v, there[k], atol=1e-9) for k, v in other.state_dict().items())
    mine.eval(), other.eval(), functional.reset_net(other)
    with torch.no_grad(): y, z = mine(clip).logits, other(clip)
    assert torch.allclose(y, z, atol=1e-8) and z.std(1).min() > 1e-3


def test_gradients_of_a_whole_net_equal_spikingjellys():
    arch, other = SEWResNet18(neuron=SAME), theirs(sew_resnet.sew_resnet18)
    mine = build(arch)
    mine.load_state_dict(from_spikingjelly(other.state_dict(), arch))
    mine, other, image = mine.double(), other.double(), torch.randn(3, 3, 32, 32).double()
    mine(image).logits.square().sum().backward()   # a still image: the stem is computed once
    other(image.expand(2, -1, -1, -1, -1)).square().sum().backward()
    found = sew_to_spikingjelly({k: p.grad for k, p in mine.named_parameters()} |
                                {k: v for k, v in mine.state_dict().items()
                                 if k not in dict(mine.named_parameters())}, arch)
    for k, p in other.named_parameters():
        assert torch.allclose(found[k], p.grad, rtol=1e-6, atol=1e-9 * p.grad.abs().max().item()), k
    assert sum(p.grad.abs().max() > 0 for p in other.parameters()) == len(list(other.parameters()))


class Oracle(nn.Module):
    """TKS's SEW-ResNet-19 with [3,3,2] blocks once more, all of SpikingJelly's layers and blocks,
    for clips [T,B,C,H,W]."""
    def __init__(self, arch, c, classes, T):
        super().__init__()
        p, (a, b, d) = arch.neuron, arch.channels
        fire = lambda: neuron.LIFNode(**constants(p)) if isinstance(p, LIF) else nn.ReLU()
        norm = {'bn': layer.BatchNorm2d,
                'tebn': functools.partial(layer.TemporalEffectiveBatchNorm2d, T),
                'tdbn': functools.partial(layer.ThresholdDependentBatchNorm2d, 1.,
                                          getattr(p, 'v_threshold', 1.))}[arch.norm]
        def block(n, m, stride=1):
            down = None if n == m else nn.Sequential(sew_resnet.conv1x1(n, m, stride), norm(m))
            return sew_resnet.BasicBlock(n, m, stride, down, norm_layer=norm, cnf='ADD',
                                         **theirs_of(p))
        self.stem = nn.Sequential(sew_resnet.conv3x3(c, arch.stem), norm(arch.stem), fire())
        self.blocks = nn.Sequential(block(arch.stem, a), block(a, a), block(a, a), block(a, b, 2),
                                    block(b, b), block(b, b),
                                    block(b, d, 2), block(d, d))
        self.pool = nn.Sequential(layer.AdaptiveAvgPool2d(1), layer.Flatten())
        self.fc1, self.read = (layer.Linear(d, arch.hidden),
                               fire() if arch.readout == 'lif' else nn.ReLU())
        self.fc2 = layer.Linear(arch.hidden, classes)
        functional.set_step_mode(self, 'm')

    def forward(self, x):
        functional.reset_net(self)
        features = self.read(self.fc1(self.pool(self.blocks(self.stem(x)))))
        return self.fc2(features), features


SEW19 = SEWResNet19(stem=3, channels=(4, 6, 8), hidden=12, neuron=SAME)


@pytest.mark.parametrize('norm', NORMS)
@pytest.mark.parametrize('change', [
    {}, dict(readout='relu'), dict(neuron=LIF(), readout='relu'),
    dict(neuron=ReLU(), readout='relu'),
    dict(neuron=LIF(tau=4/3, decay_input=False, surrogate=Sigmoid(), detach_reset=False))],
                         ids=['SEW', 'repact', 'TKS', 'ann', 'EnOF'])
def test_sew19_equals_one_of_spikingjellys_layers_and_blocks(norm, change):
    arch = replace(SEW19, norm=norm, **change)
    net, oracle = build(arch, (3, 6, 5), 5, T=4).double(), Oracle(arch, 3, 5, 4).double()
    share(net, oracle)
    compare(net, oracle, torch.randn(4, 3, 3, 6, 5, dtype=torch.float64))


NEURONS = [SAME, LIF(tau=4/3, decay_input=False, surrogate=ATan(), detach_reset=False),
           LIF(tau=2., decay_input=False, v_threshold=1., surrogate=Sigmoid(), detach_reset=False)]


@pytest.mark.parametrize('p', NEURONS, ids=str)
@pytest.mark.parametrize('c_in, width, stride', [(8, 8, 1), (8, 12, 1), (20, 8, 2)])
@pytest.mark.parametrize('bottleneck', [False, True])
def test_a_block_equals_spikingjellys(p, c_in, width, stride, bottleneck):
    kind, c_out = (sew_resnet.Bottleneck,
                   4 * width) if bottleneck else (sew_resnet.BasicBlock, width)
    down = None
    if stride != 1 or c_in != c_out:
        down = nn.Sequential(sew_resnet.conv1x1(c_in, c_out, stride), layer.BatchNorm2d(c_out))
    other = kind(c_in, width, stride, down, cnf='ADD', **theirs_of(p))
    functional.set_step_mode(other, 'm')
    mine = sew_block(c_in, width, stride, p, p.build(), normed('bn', p, 5), bottleneck)
    mine.load_state_dict(dict(zip(mine.state_dict(), other.state_dict().values())))
    mine, other = mine.double(), other.double()
    x = (torch.rand(5, 3, c_in, 9, 9) > .6).double()
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    for mode in (True, False):
        mine.train(mode), other.train(mode), functional.reset_net(other)
        y, z = mine(a), other(b)
        assert torch.equal(y, z) and set(y.unique().tolist()) <= {0, 1, 2} and y.any()
        y.cumsum(0).square().sum().backward(), z.cumsum(0).square().sum().backward()
    assert torch.allclose(a.grad, b.grad, rtol=1e-8, atol=1e-8)
    for q, r in zip(mine.parameters(), other.parameters()):
        assert torch.allclose(q.grad, r.grad, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize('kind', FULL, ids=lambda k: k.__name__)
def test_round_trip_is_exact(kind):
    state, arch = known(kind), kind()
    ours = from_spikingjelly(state, arch)
    back = sew_to_spikingjelly(ours, arch)
    assert list(back) == list(state) and all(back[k] is v for k, v in state.items())
    with torch.device('meta'): assert list(ours) == list(arch.build((3, 64, 64), 7, 1).state_dict())
    assert len(set(spikingjelly_names(arch).values())) == len(spikingjelly_names(arch))


def test_round_trip_of_other_settings():
    state = known(SEWResNet18)
    for arch in (SEWResNet18(norm='tdbn'), SEWResNet18(readout='relu'), SEWResNet18().ann()):
        ours = from_spikingjelly(state, arch)
        with torch.device('meta'): net = arch.build((3, 64, 64), 7, 2)
        net.load_state_dict(ours, assign=True)
        back = sew_to_spikingjelly(ours, arch)
        assert all(back[k] is v for k, v in state.items())


def test_the_names_are_torchvisions():
    from torchvision.models import resnet18, resnet50
    with torch.device('meta'):
        for make, arch in ((resnet18, SEWResNet18()), (resnet50, SEWResNet50())):
            assert len(from_spikingjelly(make().state_dict(), arch)) == len(make().state_dict())


def without(state, key): return {k: v for k, v in state.items() if k != key}


@pytest.mark.parametrize('change, says', [
    (lambda s: without(s, 'layer2.0.bn1.bias'), "missing key 'layer2.0.bn1.bias'"),
    (lambda s: s | {'sn1.w': torch.ones(1)}, "unknown key 'sn1.w'"),
    (lambda s: s | {'layer1.0.conv1.weight': torch.ones(2, 3)},
     r"'layer1.0.conv1.weight' has shape \(2, 3\), expected \(64, 64, 3, 3\)"),
    (lambda s: without(s, 'fc.weight'), "no weights 'fc.weight'"),
    (lambda s: {'module.' + k: v for k, v in s.items()}, "without 'module.'"),
    (lambda s: s | {'bn1.weight': 3.}, "'bn1.weight' has shape float"),
    (lambda s: [1, 2], 'state_dict'),
    (lambda s: s | {'fc.weight': 1}, 'fc.weight'),
    (lambda s: s | {'fc.weight': torch.tensor(1.)}, 'fc.weight'),
])
def test_strict_import(change, says):
    with pytest.raises(UserError, match=says):
        from_spikingjelly(change(known(SEWResNet18)), SEWResNet18())


@pytest.mark.parametrize('arch, says', [
    (ThinSEWResNet18(), 'no such net'), (SEWResNet19(), 'no such net'),
    (SEWResNet18(norm='tebn'), 'no TEBN'),
    (SEWResNet34(), "SEWResNet34: unknown key 'body.4.shortcut"),
    (SEWResNet50(), "SEWResNet50: unknown key 'body.4.shortcut")], ids=ids)
def test_strict_export(arch, says):
    with torch.device('meta'): state = SEWResNet18().build((3, 64, 64), 7, 1).state_dict()
    with pytest.raises(UserError, match=says): sew_to_spikingjelly(state, arch)


def test_export_of_two_channels_is_refused():
    with torch.device('meta'): state = SEWResNet18().build((2, 64, 64), 7, 1).state_dict()
    with pytest.raises(UserError, match='3 channels'): sew_to_spikingjelly(state, SEWResNet18())


class Bomb:
    def __init__(self, path): self.path = path
    def __reduce__(self): return Path.touch, (self.path,)


@pytest.mark.filterwarnings('ignore:Detected pickle protocol')
def test_files(tmp_path):
    state, arch = known(SEWResNet18), SEWResNet18()
    torch.save(state, tmp_path/'good.pt')
    loaded = load_spikingjelly(tmp_path/'good.pt', arch)
    assert all(torch.equal(loaded[k], v) for k, v in from_spikingjelly(state, arch).items())
    torch.save({'model': Bomb(tmp_path/'fired')}, tmp_path/'bomb.pt')
    (tmp_path/'bomb.pkl').write_bytes(pickle.dumps(Bomb(tmp_path/'fired')))
    (tmp_path/'empty.pt').write_bytes(b'')
    (tmp_path/'cut.pt').write_bytes((tmp_path/'good.pt').read_bytes()[:5000])
    (tmp_path/'text.pt').write_text('weights: none')
    torch.save(torch.ones(3), tmp_path/'tensor.pt')
    torch.save({'model': state}, tmp_path/'nested.pt')
    for name in ('bomb.pt', 'bomb.pkl', 'empty.pt', 'cut.pt', 'text.pt'):
        with pytest.raises(UserError, match='not a file of plain weights'):
            load_spikingjelly(tmp_path/name, arch)
    for name in ('tensor.pt', 'nested.pt'):
        with pytest.raises(UserError, match='state_dict'): load_spikingjelly(tmp_path/name, arch)
    with pytest.raises(UserError, match='no such file'): load_spikingjelly(tmp_path/'none.pt', arch)
    with pytest.raises(UserError): load_spikingjelly(tmp_path, arch)
    assert not (tmp_path/'fired').exists()


@pytest.mark.parametrize('arch', THIN, ids=ids)
@pytest.mark.parametrize('shape', [(3, 32, 32), (2, 33, 47)])
def test_shapes_and_gradients(arch, shape):
    D = getattr(arch, 'hidden', arch.channels[-1] * (4 if arch.bottleneck else 1))
    for a in (arch, replace(arch, readout='relu'), arch.ann()):
        net = build(a, shape, T=3)
        for x in (torch.rand(4, *shape), torch.rand(3, 4, *shape)):
            out = net(x)
            assert out.logits.shape == (3, 4, 7) and out.features.shape == (3, 4, D)
            assert torch.allclose(net.classifier(out.features), out.logits)
        out.logits.sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize('norm', NORMS)
@pytest.mark.parametrize('arch', THIN + [SEWResNet19(), SEWResNet34()], ids=ids)
def test_twins_share_keys_and_shapes(arch, norm):
    arch, shapes = replace(arch, norm=norm), []
    for a in (arch, replace(arch, readout='relu'), arch.ann()):
        with torch.device('meta'):
            shapes.append({k: v.shape for k, v in a.build((3, 32, 32), 7, 3).state_dict().items()})
        assert Arch.from_dict(a.to_dict()) == a and type(Arch.from_dict(a.to_dict())) is type(arch)
    assert shapes[0] == shapes[1] == shapes[2]


@pytest.mark.parametrize('arch', THIN, ids=ids)
def test_norms(arch):
    for a, v in ((replace(arch, norm='tdbn'), .5), (replace(arch, norm='tdbn').ann(), 1.)):
        norms = [m for m in build(a).modules() if isinstance(m, nn.BatchNorm2d)]
        assert all(type(m) is TDBN and (m.weight == v).all() for m in norms) and norms
    net = build(replace(arch, norm='tebn'), T=3)
    convs = sum(isinstance(m, nn.Conv2d) for m in net.modules())
    assert (sum(isinstance(m, TEBN) for m in net.modules()) == convs and
            isinstance(net.body[0], TEBN))
    with torch.no_grad():
        plain = build(arch, T=3)   # the same weights; factors that are one change nothing
        keep = lambda net: [v for k, v in net.state_dict().items() if not k.endswith('.p')]
        assert all(torch.equal(a, b) for a, b in zip(keep(net), keep(plain), strict=True))
        clip = torch.rand(3, 2, 3, 32, 32)
        assert torch.allclose(net.double()(clip.double()).logits,
                              plain.double()(clip.double()).logits, atol=1e-9)


def test_start_of_the_weights():
    net = build(ThinSEWResNet18())
    for m in net.modules():
        if isinstance(m, nn.Conv2d) and m.weight.numel() > 4000:
            assert (m.weight.std().item() ==
                    pytest.approx((2 / (m.kernel_size[0] ** 2 * m.out_channels)) ** .5, rel=.05))


@pytest.mark.parametrize('arch', [replace(a, neuron=LIF()) for a in THIN], ids=ids)
def test_sums_are_small_integers_and_later_steps_change_nothing_before(arch):
    clip, seen = torch.randn(4, 2, 3, 32, 32), []
    net = build(arch, T=4)
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d): m.momentum = 1.
    with torch.no_grad(): net(clip)
    net = net.eval().double()
    for m in net.modules():
        if isinstance(m, SEWBlock): m.register_forward_hook(lambda m, i, o: seen.append(o))
    with torch.no_grad():
        long = net(clip.double()).logits
        limits = [i + 2 for d in arch.depths for i in range(d)]
        assert all(torch.equal(s, s.round()) and 0 <= s.min() and 0 < s.max() <= most
                   for s, most in zip(seen, limits, strict=True))
        for t in (1, 3): assert torch.allclose(net(clip[:t].double()).logits, long[:t], atol=1e-9)


def test_place_of_the_read_out():
    for arch, place in ((ThinSEWResNet19(), 'body.10'), (ThinSEWResNet18(), 'body.9.last')):
        net = build(replace(arch, readout='relu'))
        assert [n for n, m in net.named_modules() if isinstance(m, nn.ReLU)] == [place]
    out = build(ThinSEWResNet19(readout='lif'))(torch.rand(4, 3, 32, 32))
    assert set(out.features.unique().tolist()) <= {0, 1}


def test_full_sew19_runs_once():
    with torch.no_grad():
        out = build(SEWResNet19(readout='relu'), (3, 16, 16))(torch.rand(2, 3, 16, 16))
    assert (out.logits.shape == (2, 2, 7) and out.features.shape == (2, 2, 256) and
            out.features.min() >= 0)


def test_half_precision():
    with torch.autocast('cpu', torch.bfloat16):
        out = build(ThinSEWResNet18())(torch.rand(2, 3, 32, 32))
    assert out.logits.isfinite().all()


@pytest.mark.parametrize('make, says', [
    (lambda: build(SEWResNet34(), (3, 31, 64)), '31x64'),
    (lambda: build(SEWResNet19(), (3, 3, 4)), '4x4 or more'),
    (lambda: SEWResNet18(depths=(2, 2)), 'depths'), (lambda: SEWResNet50(norm='gn'), "norm 'gn'"),
    (lambda: SEWResNet19(stem=0), 'stem'),
    (lambda: build(ThinSEWResNet18(), T=0), 'T = 0'),
    (lambda: build(ThinSEWResNet18())(torch.rand(2, 1, 32, 32)), 'expected 3 channels'),
    (lambda: Arch.from_dict({'type': 'SEWResNet34', 'bottleneck': True}), 'bottleneck'),
])
def test_kind_errors(make, says):
    with pytest.raises(UserError, match=says): make()
