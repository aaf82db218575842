"""Chapters 3.1 and 3.2 against the same nets built plainly from torch.nn and SpikingJelly's layers;
keys, places, errors, gradients."""
import copy
from dataclasses import replace
from math import sqrt

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn

from snn_repro.core.spec import UserError
from snn_repro.models.blocks import PostBlock
from snn_repro.models.resnet19 import EnofResNet19, ResNet19, ThinResNet19
from snn_repro.models.vgg import VGGSNN, ThinVGG
from snn_repro.nn.layers import TDBN, TEBN, Arch
from snn_repro.nn.neurons import ENOF_LIF, LIF, TET_LIF, TKS_LIF, LIFNode, ReLU, Triangle

T = 4
VGG = VGGSNN(channels=(3, 4, 5, 6, 7, 8, 9, 10))
TKS = ResNet19(channels=(4, 6, 8), hidden=12, norm='bn')
ENOF = EnofResNet19(channels=(4, 6, 8))
SHAPE = {VGGSNN: (2, 16, 16), ResNet19: (3, 9, 8), EnofResNet19: (3, 9, 8)}
ARCHS = [VGG, replace(VGG, norm='tdbn'), replace(VGG, norm='tebn'), TKS, replace(TKS, norm='tdbn'),
         replace(TKS, norm='tebn'), ENOF]
ids = lambda a: f'{type(a).__name__}-{getattr(a, "norm", "bn")}' if isinstance(a, Arch) else str(a)


@pytest.fixture(autouse=True)
def _same_chance():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def build(arch, classes=5, T=T, seed=0):
    torch.manual_seed(seed)
    return arch.build(SHAPE[type(arch)], classes, T)


def fold(*modules): return layer.SeqToANNContainer(*modules)


class Oracle(nn.Module):
    """The nets of both chapters, written out once more with SpikingJelly's layers, for clips
    [T,B,C,H,W]."""
    def __init__(self, arch, c, classes, features):
        super().__init__()
        self.arch, self.p = arch, arch.neuron
        body = self.vgg(c) if isinstance(arch, VGGSNN) else self.residual(c)
        self.body, self.classifier = nn.Sequential(*body), fold(nn.Linear(features, classes))

    def lif(self):
        p = self.p
        if isinstance(p, ReLU): return nn.ReLU()
        return neuron.LIFNode(
            tau=p.tau, decay_input=p.decay_input, v_threshold=p.v_threshold, v_reset=0.,
            detach_reset=p.detach_reset,
            surrogate_function=surrogate.PiecewiseQuadratic(alpha=p.surrogate.alpha), step_mode='m')

    def last(self): return self.lif() if self.arch.readout == 'lif' else nn.ReLU()

    def norm(self, width, alpha=1.):
        kind = getattr(self.arch, 'norm', 'bn')
        if kind == 'bn': return fold(nn.BatchNorm2d(width))
        if kind == 'tebn': return layer.TemporalEffectiveBatchNorm2d(T, width)
        return layer.ThresholdDependentBatchNorm2d(alpha, getattr(self.p, 'v_threshold', 1.), width)

    def vgg(self, c):
        a, b, d, e, f, g, h, i = self.arch.channels
        conv = lambda n, m: [fold(nn.Conv2d(n, m, 3, padding=1, bias=False)), self.norm(m),
                             self.lif()]
        pool = lambda: fold(nn.AvgPool2d(2))
        return [*conv(c, a), *conv(a, b), pool(), *conv(b, d), *conv(d, e), pool(), *conv(e, f),
                *conv(f, g), pool(),
                *conv(g, h), *conv(h, i)[:-1], self.last(), pool(), fold(nn.Flatten())]

    def residual(self, c):
        a, b, d = self.arch.channels
        tks = isinstance(self.arch, ResNet19)
        blocks = [Plain(self, a, a, 1, [self.norm(a, sqrt(.5))] if tks else []), Plain(self, a, a),
                  Plain(self, a, a),
                  Plain(self, a, b, 2), Plain(self, b, b), Plain(self, b, b), Plain(self, b, d, 2),
                  Plain(self, d, d)]
        if not tks: blocks[-1].end = self.last()
        end = [fold(nn.Linear(d, self.arch.hidden)), self.last()] if tks else []
        return [fold(nn.Conv2d(c, a, 3, padding=1, bias=False)), self.norm(a, sqrt(.5)), self.lif(),
                *blocks,
                fold(nn.AdaptiveAvgPool2d(1)), fold(nn.Flatten()), *end]

    def forward(self, x):
        functional.reset_net(self)
        features = self.body(x)
        return self.classifier(features), features


class Plain(nn.Module):
    def __init__(self, net, n, m, stride=1, shortcut=None):
        super().__init__()
        self.conv1, self.bn1, self.node = (fold(nn.Conv2d(n, m, 3, stride, 1, bias=False)),
                                           net.norm(m), net.lif())
        self.conv2, self.bn2 = (fold(nn.Conv2d(m, m, 3, padding=1, bias=False)),
                                net.norm(m, sqrt(.5)))
        if shortcut is None:
            shortcut = [] if n == m else [fold(nn.Conv2d(n, m, 1, stride, bias=False)),
                                          net.norm(m, sqrt(.5))]
        self.shortcut, self.end = nn.Sequential(*shortcut), net.lif()

    def forward(self, x):
        return self.end(self.bn2(self.conv2(self.node(self.bn1(self.conv1(x))))) + self.shortcut(x))


LAYERS = nn.Conv2d, nn.Linear, nn.modules.batchnorm._BatchNorm


def in_order(net):
    "Parameters in the order in which a net lists its layers, then TEBN's factors."
    factors = [m.p if isinstance(m, TEBN) else m.scale
               for m in net.modules() if isinstance(m, (TEBN, layer.TemporalEffectiveBatchNorm2d))]
    return [p for m in net.modules() if isinstance(m, LAYERS)
            for p in (m.weight, m.bias) if p is not None] + factors


def pair(arch, classes=5):
    "Our net and the oracle, in double precision, with the same lively parameters."
    net = build(arch, classes).double()
    oracle = Oracle(arch, SHAPE[type(arch)][0], classes, net.classifier.in_features).double()
    ours, theirs = in_order(net), in_order(oracle)
    assert len(ours) == len(theirs) == len(list(net.parameters())) == len(list(oracle.parameters()))
    with torch.no_grad():
        for p, q in zip(ours, theirs):
            # nothing silent
            p.copy_(p + .5 * torch.rand_like(p) if p.dim() == 1 else 6 * p if p.dim() == 2 else p)
            assert p.numel() == q.numel()
            q.copy_(p.view_as(q))
    for m in (*net.modules(), *oracle.modules()):
        if hasattr(m, 'momentum'): m.momentum = 1.   # running statistics: the last batch's
    return net, oracle


@pytest.mark.parametrize('training', [True, False], ids=['train', 'eval'])
@pytest.mark.parametrize('arch', ARCHS, ids=ids)
def test_against_spikingjelly(arch, training):
    net, oracle = pair(arch)
    clip = torch.randn(T, 3, *SHAPE[type(arch)], dtype=torch.float64)
    with torch.no_grad(): net(clip), oracle(clip)
    net.train(training), oracle.train(training)
    out, (logits, features) = net(clip), oracle(clip)
    assert (torch.allclose(out.logits, logits, atol=1e-9) and
            torch.allclose(out.features, features, atol=1e-9))
    assert out.features.abs().max() > 0 and out.logits.std() > 0


@pytest.mark.parametrize('arch', ARCHS, ids=ids)
def test_gradients_against_spikingjelly(arch):
    net, oracle = pair(arch)
    clip = torch.randn(T, 3, *SHAPE[type(arch)], dtype=torch.float64)
    g = torch.randn(T, 3, 5, dtype=torch.float64)
    net(clip).logits.backward(g), oracle(clip)[0].backward(g)
    for p, q in zip(in_order(net), in_order(oracle)):
        assert torch.allclose(p.grad, q.grad.view_as(p), atol=1e-9)
    assert next(net.parameters()).grad.abs().max() > 0


@pytest.mark.parametrize('arch', [VGG, replace(TKS, norm='tebn'), ENOF], ids=ids)
@pytest.mark.parametrize('change', [
    dict(neuron=ReLU(), readout='relu'), dict(readout='relu'),
    dict(neuron=replace(TET_LIF, surrogate=Triangle())),
    dict(neuron=LIF(tau=4/3, decay_input=False, detach_reset=False))],
                         ids=['ann', 'repact', 'TET', 'EnOF'])
def test_other_neurons_and_readouts_against_spikingjelly(arch, change):
    net, oracle = pair(replace(arch, **change))
    image = torch.randn(3, *SHAPE[type(arch)], dtype=torch.float64)
    # still: our stem runs once
    out, (logits, _) = net(image), oracle(image.expand(T, -1, -1, -1, -1))
    assert torch.allclose(out.logits, logits, atol=1e-9)


@pytest.mark.parametrize('arch', [replace(VGG, norm='tdbn'), replace(TKS, norm='tdbn')], ids=ids)
@pytest.mark.parametrize('p', [TKS_LIF, TET_LIF, ReLU()], ids=['TKS', 'TET', 'ANN'])
def test_tdbn_starts_as_spikingjellys(arch, p):
    arch = replace(arch, neuron=p)
    ours = [m for m in build(arch).modules() if isinstance(m, TDBN)]
    theirs = [m for m in Oracle(arch, 3, 5, 10).modules()
              if isinstance(m, layer.ThresholdDependentBatchNorm2d)]
    assert len(ours) == len(theirs) == (8 if isinstance(arch, VGGSNN) else 20)
    if isinstance(arch, ResNet19):
        assert all(torch.allclose(a.weight, b.weight) for a, b in zip(ours, theirs))
    scales = {round(m.weight[0].item() / getattr(p, 'v_threshold', 1.), 4) for m in ours}
    assert scales == ({1.} if isinstance(arch, VGGSNN) else {1., .7071})


@pytest.mark.parametrize('arch', ARCHS, ids=ids)
def test_weights_move_between_twins(arch):
    nets = [build(a, seed=i) for i, a in enumerate((arch, replace(arch, readout='relu'), arch.ann(),
                                                    replace(arch, neuron=ENOF_LIF)))]
    for net in nets[1:]: net.load_state_dict(nets[0].state_dict())
    shapes = [{k: v.shape for k, v in n.state_dict().items()} for n in nets]
    assert all(s == shapes[0] for s in shapes)


@pytest.mark.parametrize('arch', ARCHS, ids=ids)
def test_shapes_gradients_and_no_state(arch):
    shape = SHAPE[type(arch)]
    for a in (arch, replace(arch, readout='relu'), arch.ann()):
        net = build(a)
        for x in (torch.rand(3, *shape), torch.rand(T, 3, *shape)):
            out = net(x)
            assert (out.logits.shape == (T, 3, 5) and
                    out.features.shape == (T, 3, net.classifier.in_features))
            assert torch.allclose(net.classifier(out.features), out.logits)
        out.logits.square().sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
        net.eval()
        assert torch.equal(net(x).logits, copy.deepcopy(net)(x).logits)


@pytest.mark.parametrize('arch', ARCHS, ids=ids)
def test_first_steps_do_not_know_the_later_ones(arch):
    net, clip = build(arch).double(), torch.rand(T, 3, *SHAPE[type(arch)], dtype=torch.float64)
    with torch.no_grad():
        net(clip)
        net.eval()
        for t in (1, 3):
            assert torch.allclose(net(clip[:t]).logits, net(clip).logits[:t], atol=1e-9)


@pytest.mark.parametrize('arch', [*ARCHS, ThinVGG(), ThinResNet19(), VGGSNN(), ResNet19(),
                                  EnofResNet19()], ids=ids)
def test_setting_round_trip(arch):
    for a in (arch, replace(arch, neuron=ENOF_LIF, readout='relu'), arch.ann()):
        assert Arch.from_dict(a.to_dict()) == a and type(Arch.from_dict(a.to_dict())) is type(arch)


@pytest.mark.parametrize('arch, place', [
    (VGG, 'body.14'), (replace(VGG, norm='tebn'), 'body.22'), (TKS, 'body.10'),
    (ENOF, 'body.8.last')], ids=ids)
def test_places_of_the_readout(arch, place):
    net = build(replace(arch, readout='relu'))
    assert [n for n, m in net.named_modules() if isinstance(m, nn.ReLU)] == [place]
    nodes = sum(isinstance(m, LIFNode) for m in build(arch).modules())
    assert nodes == {VGGSNN: 8, ResNet19: 18, EnofResNet19: 17}[type(arch)]


@pytest.mark.parametrize('make, shape, classes, size', [
    (VGGSNN, (2, 48, 48), 10, 9_268_746), (VGGSNN, (2, 48, 48), 101, 9_688_165),
    (ResNet19, (3, 32, 32), 10, 12_698_250), (ResNet19, (3, 32, 32), 100, 12_721_380),
    (EnofResNet19, (3, 32, 32), 10, 12_569_226), (EnofResNet19, (3, 32, 32), 100, 12_615_396)])
def test_full_size(make, shape, classes, size):
    with torch.device('meta'):
        net = make().build(shape, classes, T)
        for x in (torch.empty(2, *shape), torch.empty(T, 2, *shape)):
            assert net(x).logits.shape == (T, 2, classes)
    assert sum(p.numel() for p in net.parameters()) == size


def test_stages_and_strides():
    for arch in (ResNet19(), EnofResNet19()):
        with torch.device('meta'):
            blocks = [b for b in arch.build((3, 32, 32), 10, 1).body if isinstance(b, PostBlock)]
        assert [(b.branch[0][0].out_channels, b.branch[0][0].stride[0]) for b in blocks] == \
            [(128, 1)] * 3 + [(256, 2)] + [(256, 1)] * 2 + [(512, 2), (512, 1)]
        kinds = [[type(m).__name__ for m in b.shortcut.modules()
                  if isinstance(m, (nn.Conv2d, nn.BatchNorm2d))] for b in blocks]
        tks = isinstance(arch, ResNet19)
        norm = 'TDBN' if tks else 'BatchNorm2d'
        assert kinds == [[norm] if tks else [], [], [], ['Conv2d', norm], [], [],
                         ['Conv2d', norm], []]


def test_enofs_start_values():
    net = EnofResNet19(channels=(16, 32, 64)).build((3, 32, 32), 100, 1)
    convs = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    for m in convs[1:]:
        assert abs(m.weight.std() / sqrt(2 / (m.kernel_size[0]**2 * m.out_channels)) - 1) < .12
    assert abs(net.classifier.weight.std() * 64 - 1) < .05 and net.classifier.bias.eq(0).all()
    assert all(m.weight.eq(1).all() and m.bias.eq(0).all()
               for m in net.modules() if isinstance(m, nn.BatchNorm2d))


@pytest.mark.parametrize('make, says', [
    (lambda: VGGSNN().build((2, 15, 48), 10, 4), '15x48.*16x16 or more'),
    (lambda: ResNet19().build((3, 32, 3), 10, 4), '32x3.*4x4 or more'),
    (lambda: EnofResNet19().build((3, 2, 2), 10, 4), '2x2'),
    (lambda: VGGSNN(channels=(4, 4, 4)), 'even'),
    (lambda: VGGSNN(channels=()), r'channels \[\]'),
    (lambda: VGGSNN(channels=(4, 0)), 'channels'),
    (lambda: VGGSNN(norm='ln'), "norm 'ln'"),
    (lambda: ResNet19(norm='ln'), "norm 'ln'"),
    (lambda: ResNet19(depths=(3, 3)), 'depths'),
    (lambda: ResNet19(depths=(3, 3, 0)), 'depths'),
    (lambda: EnofResNet19(depths=()), 'depths'),
    (lambda: ResNet19(hidden=0), 'hidden'),
    (lambda: VGGSNN(readout='no'), 'readout'),
    (lambda: build(VGG, T=0), 'T = 0'),
    (lambda: build(TKS, T=2.), 'T = 2.0'),
    (lambda: Arch.from_dict({'type': 'ResNet19', 'norm': 'ln'}), "'ln'"),
    (lambda: build(VGG)(torch.rand(2, 3, 16, 16)), 'expected 2 channels'),
    (lambda: build(VGG)(torch.rand(2, 2, 32, 32)), '40 features'),
    (lambda: build(replace(VGG, norm='tebn'))(torch.rand(5, 2, 2, 16, 16)), 'at most 4 steps'),
])
def test_kind_errors(make, says):
    with pytest.raises(UserError, match=says): make()


def test_maps_stay_channels_last_where_they_may():
    seen = []
    for arch, x in ((ThinVGG(), torch.rand(2, 2, 16, 16)),
                    (ThinResNet19(), torch.rand(2, 3, 8, 8))):
        net = arch.build(tuple(x.shape[1:]), 10, 2)
        for m in net.modules():
            if isinstance(m, (nn.Conv2d, nn.BatchNorm2d, nn.AvgPool2d)):
                m.register_forward_hook(lambda m, i, o: seen.append(
                    i[0].is_contiguous(memory_format=torch.channels_last)))
        net(x).logits.sum().backward()
    assert seen and all(seen)


def test_thin_strided_shortcuts_keep_the_ordinary_order():
    net = build(TKS)
    strided = [b.shortcut[0] for b in net.body if isinstance(b, PostBlock) and
               b.branch[0][0].stride == (2, 2)]
    assert len(strided) == 2 and all(s.order is torch.contiguous_format for s in strided)
