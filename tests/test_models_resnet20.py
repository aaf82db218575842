"""Chapter 3.3's nets against torchvision's, SpikingJelly's layers and a second reading of the plan;
shapes, twins, norms, errors."""
from dataclasses import replace
from math import sqrt

import pytest
import torch
import torch.nn.functional as F
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn
from torchvision.models import resnet34

from nets import build, compare, constants, ids, same_chance, share   # noqa: F401
from snn_repro.core.spec import UserError
from snn_repro.models.blocks import block_plan
from snn_repro.models.resnet20 import (EnofResNet20, EnofResNet20ThreeStage, EnofResNet34,
                                       ThinResNet20, outline)
from snn_repro.nn.layers import NORMS, TDBN, TEBN, Arch
from snn_repro.nn.neurons import ENOF_LIF, LIF, TKS_LIF, ATan, LIFNode, ReLU, lif

THIN = [ThinResNet20(neuron=ENOF_LIF), EnofResNet20ThreeStage(channels=(4, 8, 16)),
        EnofResNet34(channels=(4, 8, 12, 16), depths=(2, 1, 2, 1))]
FULL = [EnofResNet20(), EnofResNet20ThreeStage(), EnofResNet34()]


def settle(net, x):
    "Test mode with the statistics of one batch, so that the net is alive."
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d): m.momentum = 1.
    with torch.no_grad(): net(x)
    return net.eval()


def reference(net, arch, clip):
    "EnOF's ResNet-20 once more, step by step where it can be, from its weights alone."
    state, T = net.state_dict(), len(clip)
    fire = F.relu if isinstance(arch.neuron, ReLU) else lambda x: lif(x, arch.neuron)
    def conv_norm(x, at, stride=1):
        w = state[f'{at}.weight']
        n = at[:-1] + str(int(at[-1]) + 1)
        norm = [state[f'{n}.{k}'] for k in ('running_mean', 'running_var', 'weight', 'bias')]
        return torch.stack([F.batch_norm(F.conv2d(i, w, stride=stride,
                                                  padding=w.shape[-1] // 2), *norm) for i in x])
    x = fire(conv_norm(clip, 'stem.0'))
    for at in ('body.1.0', 'body.3.0'): x = fire(conv_norm(x, at))
    x = torch.stack([F.avg_pool2d(i, 2) for i in x])
    for b in range(8):
        at, stride = f'body.{6 + b}', 2 if b in (2, 4, 6) else 1
        y = fire(conv_norm(x, f'{at}.branch.0.0', stride))
        y = conv_norm(y, f'{at}.branch.2.0')
        if stride == 2:
            even = torch.stack([F.interpolate(i, scale_factor=.5, mode='area') for i in x])
            x = conv_norm(even, f'{at}.shortcut.0.1')
        x = (F.relu if b == 7 and arch.readout == 'relu' else fire)(x + y)
    features = x.mean((-1, -2))
    return features, features @ state['classifier.weight'].T + state['classifier.bias']


@pytest.mark.parametrize('change', [{}, {'readout': 'relu'}, {'neuron': TKS_LIF},
                                    {'neuron': ReLU(), 'readout': 'relu'}], ids=str)
def test_resnet20_is_its_plan(change):
    arch = replace(ThinResNet20(neuron=ENOF_LIF), **change)
    clip = torch.randn(3, 4, 2, 32, 32)
    net = settle(build(arch, (2, 32, 32), T=3), clip).double()
    with torch.no_grad():
        out = net(clip.double())
        features, logits = reference(net, arch, clip.double())
    assert (torch.allclose(out.features, features, atol=1e-9) and
            torch.allclose(out.logits, logits, atol=1e-9) and logits.std() > 1e-5)


def fold(*modules): return layer.SeqToANNContainer(*modules)


class Oracle(nn.Module):
    """Both nets called ResNet-20, of the depths of their papers, written out with torch.nn and
    SpikingJelly's layers, for clips [T,B,C,H,W]."""
    def __init__(self, arch, c, classes, T):
        super().__init__()
        self.arch, self.p, self.T = arch, arch.neuron, T
        a, *_, z = arch.channels
        body = (self.three_stages(c) if isinstance(arch, EnofResNet20ThreeStage)
                else self.four_stages(c))
        body[-1].end = self.lif() if arch.readout == 'lif' else nn.ReLU()
        self.body, self.classifier = nn.Sequential(
            *body, fold(nn.AdaptiveAvgPool2d(1), nn.Flatten())), fold(nn.Linear(z, classes))

    def lif(self):
        return (neuron.LIFNode(**constants(self.p), step_mode='m') if isinstance(self.p, LIF)
                else nn.ReLU())

    def norm(self, width, alpha=1.):
        if self.arch.norm == 'bn': return fold(nn.BatchNorm2d(width))
        if self.arch.norm == 'tebn': return layer.TemporalEffectiveBatchNorm2d(self.T, width)
        return layer.ThresholdDependentBatchNorm2d(alpha, getattr(self.p, 'v_threshold', 1.), width)

    def conv(self, n, m):
        return [fold(nn.Conv2d(n, m, 3, padding=1, bias=False)), self.norm(m), self.lif()]

    def three_stages(self, c):
        a, b, d = self.arch.channels
        down = lambda n, m: [fold(nn.Conv2d(n, m, 1, 2, bias=False))]
        same = lambda n: Plain(self, n, n)
        return [*self.conv(c, a), same(a), same(a), same(a), Plain(self, a, b, down(a, b)), same(b),
                same(b),
                Plain(self, b, d, down(b, d)), same(d), same(d)]

    def four_stages(self, c):
        a, b, d, e = self.arch.channels
        mean = lambda: nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False)
        down = lambda n, m: [fold(mean()), fold(nn.Conv2d(n, m, 1, bias=False))]
        same = lambda n: Plain(self, n, n)
        return [*self.conv(c, a), *self.conv(a, a), *self.conv(a, a), fold(nn.AvgPool2d(2)),
                same(a), same(a),
                Plain(self, a, b, down(a, b)), same(b), Plain(self, b, d, down(b, d)), same(d),
                Plain(self, d, e, down(d, e)), same(e)]

    def forward(self, x):
        functional.reset_net(self)
        features = self.body(x)
        return self.classifier(features), features


class Plain(nn.Module):
    "A block that halves the map if it has a `shortcut`."
    def __init__(self, net, n, m, shortcut=None):
        super().__init__()
        self.conv1, self.bn1, self.node = (
            fold(nn.Conv2d(n, m, 3, 2 if shortcut else 1, 1, bias=False)), net.norm(m), net.lif())
        self.conv2, self.bn2 = (fold(nn.Conv2d(m, m, 3, padding=1, bias=False)),
                                net.norm(m, sqrt(.5)))
        self.shortcut, self.end = (
            nn.Sequential(*[*shortcut, net.norm(m, sqrt(.5))] if shortcut else []), net.lif())

    def forward(self, x):
        return self.end(self.bn2(self.conv2(self.node(self.bn1(self.conv1(x))))) + self.shortcut(x))


# odd maps, too
SMALL = [(EnofResNet20(channels=(4, 6, 8, 10)), (3, 18, 20)),
         (EnofResNet20ThreeStage(channels=(4, 6, 8)), (3, 9, 8))]


@pytest.mark.parametrize('norm', NORMS)
@pytest.mark.parametrize('arch, shape', SMALL, ids=ids)
@pytest.mark.parametrize('change', [
    {}, dict(readout='relu'), dict(neuron=ENOF_LIF, readout='relu'),
    dict(neuron=LIF(surrogate=ATan())),
    dict(neuron=ReLU(), readout='relu')], ids=['TKS', 'repact', 'EnOF', 'SEW', 'ann'])
def test_equal_to_a_net_of_spikingjellys_layers(arch, shape, norm, change):
    arch = replace(arch, norm=norm, **change)
    net, oracle = build(arch, shape, 5, T=4).double(), Oracle(arch, 3, 5, 4).double()
    share(net, oracle)
    compare(net, oracle, torch.randn(4, 3, *shape, dtype=torch.float64))


def test_resnet34_without_spikes_is_torchvisions_with_an_average():
    theirs = resnet34(num_classes=7)
    theirs.maxpool = nn.AvgPool2d(3, 2, 1)
    mine = build(EnofResNet34().ann(), (3, 64, 64), T=1)
    state = mine.state_dict()
    other = theirs.state_dict()
    assert [v.shape for v in state.values()] == [v.shape for v in other.values()]
    mine.load_state_dict(dict(zip(state, other.values())))
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        for mode in (True, False):
            mine.train(mode), theirs.train(mode)
            a, b = mine(x).logits[0], theirs(x)
            assert torch.allclose(a, b, atol=1e-4 * b.abs().max()) and b.std() > 1e-3


def test_parameters():
    size = lambda arch, K: sum(n for *_, n in outline(arch, (3, 32, 32), K))
    assert (size(EnofResNet20(), 10), size(EnofResNet20(), 100)) == (11_247_946, 11_294_116)
    assert size(EnofResNet34(), 1000) == sum(p.numel() for p in resnet34().parameters())
    with torch.device('meta'): net = EnofResNet20().build((3, 32, 32), 100, 4)
    assert sum(p.numel() for p in net.parameters()) == 11_294_116


def test_full_resnet20_runs_once():
    net = build(EnofResNet20(neuron=ENOF_LIF, readout='relu'), T=2)
    out = net(torch.rand(2, 3, 32, 32))
    assert out.logits.shape == (2, 2, 7) and out.features.shape == (2, 2, 512)
    out.logits.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize('arch', THIN, ids=ids)
@pytest.mark.parametrize('shape', [(3, 32, 32), (2, 33, 47)])
def test_shapes_and_gradients(arch, shape):
    for a in (arch, replace(arch, readout='relu'), arch.ann()):
        net = build(a, shape, T=3)
        for x in (torch.rand(4, *shape), torch.rand(3, 4, *shape)):
            out = net(x)
            assert out.logits.shape == (3, 4, 7) and out.features.shape == (3, 4, arch.channels[-1])
            assert torch.allclose(net.classifier(out.features), out.logits)
        out.logits.sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize('norm', NORMS)
@pytest.mark.parametrize('arch', THIN + FULL, ids=ids)
def test_twins_share_keys_shapes_and_start(arch, norm):
    arch, shapes = replace(arch, norm=norm), []
    for a in (arch, replace(arch, readout='relu'), arch.ann()):
        with torch.device('meta'):
            shapes.append({k: v.shape for k, v in a.build((3, 32, 32), 7, 3).state_dict().items()})
        assert Arch.from_dict(a.to_dict()) == a
    assert shapes[0] == shapes[1] == shapes[2]
    if arch.channels[0] < 64 and norm != 'tdbn':
        a, b = build(arch).state_dict(), build(arch.ann()).state_dict()
        assert all(torch.equal(v, b[k]) for k, v in a.items())


@pytest.mark.parametrize('arch', THIN, ids=ids)
def test_norms_start_where_they_should(arch):
    for a, v in ((replace(arch, norm='tdbn'), arch.neuron.v_threshold),
                 (replace(arch, norm='tdbn').ann(), 1.)):
        net = build(a)
        starts = {n: m.weight[0].item() for n, m in net.named_modules() if isinstance(m, TDBN)}
        sums = {n: w for n, w in starts.items() if 'branch.2' in n or 'shortcut' in n}
        assert all(w == pytest.approx(v * .5 ** .5) for w in sums.values()) and sums
        assert all(w == pytest.approx(v) for n, w in starts.items() if n not in sums)
        assert not any(type(m) is nn.BatchNorm2d for m in net.modules())
    net = build(replace(arch, norm='tebn'), T=3)
    convs = sum(isinstance(m, nn.Conv2d) for m in net.modules())
    assert sum(isinstance(m, TEBN) and m.p.shape == (3,) for m in net.modules()) == convs
    clip = torch.rand(3, 2, 3, 32, 32)
    assert net.eval()(clip[:2]).logits.shape == (2, 2, 7)
    with pytest.raises(UserError, match='at most 3'): net(torch.rand(4, 2, 3, 32, 32))


@pytest.mark.parametrize('arch', THIN, ids=ids)
def test_later_steps_change_nothing_before(arch):
    clip = torch.randn(4, 3, 3, 32, 32)
    net = settle(build(arch, T=4), clip).double()
    with torch.no_grad():
        long = net(clip.double()).logits
        for t in (1, 3): assert torch.allclose(net(clip[:t].double()).logits, long[:t], atol=1e-9)
        image = clip[0].double()
        assert torch.allclose(net(image).logits, net(image.expand(4, -1, -1, -1, -1)).logits,
                              atol=1e-9)


@pytest.mark.parametrize('arch', THIN, ids=ids)
def test_place_of_the_read_out(arch):
    net = build(replace(arch, readout='relu'))
    assert ([n for n, m in net.named_modules() if isinstance(m, nn.ReLU)] ==
            [f'body.{len(net.body) - 2}.last'])
    assert isinstance(net.body[0], LIFNode) and len(net.stem) == 2


def test_start_of_the_weights():
    net = build(ThinResNet20())
    big = [m for m in net.modules() if isinstance(m, nn.Conv2d) and m.weight.numel() > 4000]
    for m in big:
        assert (m.weight.std().item() ==
                pytest.approx((2 / (m.kernel_size[0] ** 2 * m.out_channels)) ** .5, rel=.05))
    assert (net.classifier.weight.std().item() == pytest.approx(1 / 128, rel=.1) and
            not net.classifier.bias.any() and len(big) > 10)


def test_the_other_resnet20_has_twenty_layers_too():
    for arch, shortcuts in ((EnofResNet20(), 3), (EnofResNet20ThreeStage(), 2)):
        with torch.device('meta'): net = arch.build((3, 32, 32), 10, 1)
        assert sum(isinstance(m, (nn.Conv2d, nn.Linear)) for m in net.modules()) - shortcuts == 20


@pytest.mark.parametrize('arch', THIN + [EnofResNet20(norm='tebn', neuron=ENOF_LIF)], ids=ids)
def test_outline_counts_every_parameter(arch):
    before = torch.get_rng_state()
    rows = outline(arch, (3, 32, 32), 10, T=4)
    assert torch.equal(torch.get_rng_state(), before)
    with torch.device('meta'): net = arch.build((3, 32, 32), 10, 4)
    assert (sum(n for *_, n in rows) == sum(p.numel() for p in net.parameters()) and
            rows[-1][:2] == ('Linear', (4, 1, 10)))


def test_plan():
    assert block_plan(3, (8,), (1,)) == [(3, 8, 1)]
    assert block_plan(8, (8, 16), (2, 2), 4) == [(8, 8, 1), (32, 8, 1), (32, 16, 2), (64, 16, 1)]


@pytest.mark.parametrize('make, says', [
    (lambda: build(EnofResNet20(), (3, 15, 32)), '15x32'),
    (lambda: build(EnofResNet34(), (3, 31, 64)), '32x32 or more'),
    (lambda: build(EnofResNet20ThreeStage(), (3, 3, 3)), '4x4 or more'),
    (lambda: EnofResNet20(depths=(2, 2)), 'depths'),
    (lambda: EnofResNet20(norm='gn'), "norm 'gn'"), (lambda: EnofResNet34(channels=()), 'channels'),
    (lambda: build(ThinResNet20(), T=0), 'T = 0'),
    (lambda: Arch.from_dict({'type': 'EnofResNet20', 'norm': 'gn'}), "'gn'"),
    (lambda: EnofResNet20(readout='spike'), 'spike'),
    (lambda: build(ThinResNet20())(torch.rand(2, 1, 32, 32)), 'expected 3 channels'),
])
def test_kind_errors(make, says):
    with pytest.raises(UserError, match=says): make()
