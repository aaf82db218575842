"The compiled neuron gives the spikes and gradients of the readable ones, is really used, and falls back aloud."
import warnings
from dataclasses import replace
from itertools import product

import pytest
import torch

from conftest import NAME
from snn_repro import compiled, kernels
from snn_repro.compiled import can_compile, compile_neurons, compiled_lif, credit, fire
from snn_repro.exhibits import asked
from snn_repro.experiments import find_tier
from snn_repro.kernels import fused_lif
from snn_repro.models.small import SmallResNet, SmallSEW, SmallVGG
from snn_repro.neurons import ATan, ENOF_LIF, LIF, LIFNode, Rectangle, Sigmoid, TET_LIF, TKS_LIF, Tanh, Triangle, lif
from snn_repro.training import Runtime, fit

NEURONS = {'TKS': TKS_LIF, 'EnOF': ENOF_LIF, 'TET': TET_LIF} | {
    f'{type(s).__name__}, tau {tau}, {"detached" if d else "attached"}': LIF(tau=tau, decay_input=tau == 3., surrogate=s, detach_reset=d)
    for s, (tau, d) in product((Triangle(), Rectangle(), Tanh(), ATan(), Sigmoid()), ((3., True), (2.5, False)))}
LAYOUTS = {'one axis': (4, 33), 'images': (4, 2, 3, 5, 7), 'channels last': (4, 2, 5, 7, 3), 'ten steps': (10, 6, 5), 'one step': (1, 40), 'gaps': (4, 6, 10)}


@pytest.fixture(scope='module', autouse=True)
def compiler():
    if not can_compile('cpu'): pytest.skip('no compiler here')


def setting(p): return p.decay, p.gain, float(p.v_threshold), p.surrogate.derivative, p.detach_reset


def current(layout, dtype, seed=0):
    x = torch.randn(LAYOUTS[layout], generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)
    return x.permute(0, 1, 4, 2, 3) if layout == 'channels last' else x[..., ::2] if layout == 'gaps' else x


def passes(kernel, p, x, g):
    x = x.detach().requires_grad_()
    spikes = kernel(x, *setting(p))
    spikes.backward(g)
    return spikes.detach(), x.grad


@pytest.mark.parametrize('name', NEURONS)
def test_the_two_loops_are_the_loop_to_read(name):
    p = NEURONS[name]
    for layout, dtype in product(('one axis', 'ten steps', 'one step'), (torch.float32, torch.float64)):
        x, g = (current(layout, dtype, seed).flatten(1) for seed in (0, 1))
        s, d = fire(x, p.decay, p.v_threshold/p.gain), credit(x, g, *setting(p))
        s2, d2 = passes(fused_lif, p, x, g)
        assert s.dtype == d.dtype == dtype and torch.equal(s, s2) and (d - d2).abs().max() <= (1e-5 if dtype == torch.float32 else 1e-12)*d2.abs().max()
    s3, d3 = passes(lambda x, *_: lif(x, p), p, x, g)
    assert torch.equal(s, s3) and (d - d3).abs().max() <= 1e-12*d3.abs().max() and d.any()


COMPILED = [(n, l, torch.float32) for n in ('TKS', 'EnOF') for l in LAYOUTS] + [('TKS', 'images', torch.float64)] + \
           [(n, 'one axis', torch.float32) for n in NEURONS if 'attached' in n]

@pytest.mark.parametrize('name, layout, dtype', COMPILED)
def test_compiled_they_give_the_spikes_and_gradients_of_the_kernel(name, layout, dtype):
    p, x, g = NEURONS[name], current(layout, dtype), current(layout, dtype, 1)
    (s, d), (s2, d2) = passes(compiled_lif, p, x, g), passes(fused_lif, p, x, g)
    assert s.shape == x.shape and s.dtype == dtype and torch.equal(s, s2) and 0 < s.mean() < 1
    assert d.any() and (d - d2).abs().max() <= (1e-5 if dtype == torch.float32 else 1e-12)*d2.abs().max()
    assert torch.equal(s, compiled_lif(x, *setting(p))), 'without a gradient'


@pytest.mark.parametrize('p', (TKS_LIF, ENOF_LIF), ids=('TKS', 'EnOF'))
def test_bfloat16_has_a_membrane_in_float32(p):
    x, g = current('images', torch.bfloat16), current('images', torch.bfloat16, 1)
    s, d = passes(compiled_lif, p, x, g)
    s2, d2 = passes(fused_lif, p, x.float(), g.float())
    assert s.dtype == d.dtype == torch.bfloat16 and torch.equal(s.float(), s2)
    assert (d.float() - d2).abs().max() <= 2**-8*d2.abs().max()


def test_a_still_image_is_read_once_for_all_steps():
    x = torch.randn(1, 2, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    out = []
    for kernel in (compiled_lif, fused_lif):
        y = x.clone().requires_grad_()
        spikes = kernel(y.expand(4, -1, -1, -1, -1), *setting(TKS_LIF))
        spikes.backward(torch.ones_like(spikes))
        out.append((spikes.detach(), y.grad))
    assert torch.equal(out[0][0], out[1][0]) and torch.allclose(out[0][1], out[1][1], rtol=1e-5) and out[0][1].any()


def test_only_the_input_is_kept():
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        x = current('images', torch.float32).requires_grad_()
        compiled_lif(x, *setting(TKS_LIF))
    assert [t.data_ptr() for t in kept] == [x.data_ptr()]


@pytest.mark.parametrize('arch', (SmallVGG, SmallResNet, SmallSEW))
def test_a_net_computes_the_same_and_nothing_falls_back(arch, monkeypatch):
    outs = []
    for fast in (False, True):
        torch.manual_seed(0)
        net, images = arch().build((1, 12, 12), 10, 4), torch.randn(8, 1, 12, 12)
        if fast:
            assert compile_neurons(net)
            def eager(*_): raise AssertionError('the eager kernel was used')
            monkeypatch.setattr(kernels, '_fire', eager)
        out = net(images)
        out.logits.square().mean().backward()
        with torch.no_grad(): test = net.eval()(images).logits
        outs.append((out.features.detach(), test, *(p.grad for p in net.parameters())))
    for i, (a, b) in enumerate(zip(*outs)): assert torch.equal(a, b) if i < 2 else (a - b).abs().max() <= 1e-5*max(a.abs().max(), 1e-6)


def test_shapes_share_what_was_compiled():
    from torch._dynamo.utils import counters
    passes(compiled_lif, TKS_LIF, torch.randn(4, 3, 8, 5, 5), torch.randn(4, 3, 8, 5, 5))
    before = counters['stats']['unique_graphs']
    for shape in ((4, 7, 8, 3, 3), (4, 50, 9), (4, 2, 16, 9, 9)): passes(compiled_lif, TKS_LIF, torch.randn(shape), torch.randn(shape))
    assert counters['stats']['unique_graphs'] == before


def test_without_a_compiler_it_says_so_once_and_goes_on(monkeypatch):
    def broken(function):
        def run(*a): raise RuntimeError('InvalidCxxCompiler: No working C++ compiler found')
        return run
    monkeypatch.setattr(compiled, '_compiled', broken)
    can_compile.cache_clear()
    net = SmallResNet().build((1, 12, 12), 10, 2)
    try:
        with pytest.warns(UserWarning, match='neurons are not compiled.*No working C'): assert not compile_neurons(net)
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            assert not compile_neurons(net)
    finally: can_compile.cache_clear()
    assert all(m.kernel is fused_lif for m in net.modules() if isinstance(m, LIFNode))
    net(torch.randn(2, 1, 12, 12)).logits.sum().backward()


def test_a_run_may_be_compiled(tmp_path):
    e = asked(NAME, find_tier('mini'))[1]
    e = replace(e, recipe=replace(e.recipe, epochs=2))
    slow, fast = fit(e, tmp_path/'slow'), fit(e, tmp_path/'fast', Runtime(compile=True))
    assert (slow.env['compiled'], fast.env['compiled']) == (False, True) and slow.id == fast.id
    assert abs(slow.history.ce[0] - fast.history.ce[0]) < 1e-3
