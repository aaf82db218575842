"""The compiled neuron gives the spikes and gradients of the readable ones, is really used, and
falls back aloud."""
import warnings
from itertools import product

import pytest
import torch

from snn_repro.nn import compiled
from snn_repro.nn.compiled import bptt, can_compile, compiled_lif, fire, run_compiled
from snn_repro.nn.kernels import fused_lif
from snn_repro.nn.neurons import (ENOF_LIF, LIF, TET_LIF, TKS_LIF, ATan, Rectangle, Sigmoid, Tanh,
                                  Triangle, lif)

NEURONS = {'TKS': TKS_LIF, 'EnOF': ENOF_LIF, 'TET': TET_LIF} | {
    f'{type(s).__name__}, tau {tau}, {"detached" if d else "attached"}': LIF(
        tau=tau, decay_input=tau == 3., surrogate=s, detach_reset=d)
    for s, (tau, d) in product((Triangle(), Rectangle(), Tanh(), ATan(), Sigmoid()),
                               ((3., True), (2.5, False)))}
LAYOUTS = {'one axis': (4, 33), 'images': (4, 2, 3, 5, 7), 'channels last': (4, 2, 5, 7, 3),
           'ten steps': (10, 6, 5), 'one step': (1, 40), 'gaps': (4, 6, 10)}


@pytest.fixture(scope='module', autouse=True)
def compiler():
    if not can_compile('cpu'): pytest.skip('no compiler here')


def setting(p): return p.decay, p.gain, float(p.v_threshold), p.surrogate.derivative, p.detach_reset


def current(layout, dtype, seed=0):
    x = torch.randn(LAYOUTS[layout], generator=torch.Generator().manual_seed(seed),
                    dtype=torch.float64).to(dtype)
    return (x.permute(0, 1, 4, 2, 3) if layout == 'channels last'
            else x[..., ::2] if layout == 'gaps' else x)


def passes(kernel, p, x, g):
    x = x.detach().requires_grad_()
    spikes = kernel(x, *setting(p))
    spikes.backward(g)
    return spikes.detach(), x.grad


@pytest.mark.parametrize('name', NEURONS)
def test_the_two_loops_are_the_loop_to_read(name):
    p = NEURONS[name]
    for layout, dtype in product(('one axis', 'ten steps', 'one step'),
                                 (torch.float32, torch.float64)):
        x, g = (current(layout, dtype, seed).flatten(1) for seed in (0, 1))
        s, d = fire(len(x), p.decay, p.v_threshold/p.gain, x), bptt(len(x), *setting(p), x, g)
        s2, d2 = passes(fused_lif, p, x, g)
        assert (s.dtype == d.dtype == dtype and torch.equal(s, s2) and
                (d - d2).abs().max() <= (1e-5 if dtype == torch.float32 else 1e-12)*d2.abs().max())
    s3, d3 = passes(lambda x, *_: lif(x, p), p, x, g)
    assert torch.equal(s, s3) and (d - d3).abs().max() <= 1e-12*d3.abs().max() and d.any()


COMPILED = ([(n, l, torch.float32) for n in ('TKS', 'EnOF') for l in LAYOUTS] +
            [('TKS', 'images', torch.float64)] +
            [(n, 'one axis', torch.float32) for n in NEURONS if 'attached' in n])

@pytest.mark.slow
@pytest.mark.parametrize('name, layout, dtype', COMPILED)
def test_compiled_they_give_the_spikes_and_gradients_of_the_kernel(name, layout, dtype):
    p, x, g = NEURONS[name], current(layout, dtype), current(layout, dtype, 1)
    (s, d), (s2, d2) = passes(compiled_lif, p, x, g), passes(fused_lif, p, x, g)
    assert s.shape == x.shape and s.dtype == dtype and torch.equal(s, s2) and 0 < s.mean() < 1
    assert (d.any() and
            (d - d2).abs().max() <= (1e-5 if dtype == torch.float32 else 1e-12)*d2.abs().max())
    assert torch.equal(s, compiled_lif(x, *setting(p))), 'without a gradient'


@pytest.mark.parametrize('p', (TKS_LIF, ENOF_LIF), ids=('TKS', 'EnOF'))
def test_bfloat16_has_a_membrane_in_float32(p):
    x, g = current('images', torch.bfloat16), current('images', torch.bfloat16, 1)
    s, d = passes(compiled_lif, p, x, g)
    s2, d2 = passes(fused_lif, p, x.float(), g.float())
    assert s.dtype == d.dtype == torch.bfloat16 and torch.equal(s.float(), s2)
    assert (d.float() - d2).abs().max() <= 2**-8*d2.abs().max()


@pytest.mark.parametrize('dtype', (torch.bool, torch.uint8, torch.int64), ids=str)
def test_whole_numbers_are_computed_as_floats(dtype):
    c = torch.randint(0, 4, LAYOUTS['images'], generator=torch.Generator().manual_seed(0)).to(dtype)
    s, want = compiled_lif(c, *setting(TKS_LIF)), lif(c.float(), TKS_LIF)
    assert s.dtype == torch.float32 and torch.equal(s, want) and 0 < want.mean() < 1
    plain = fire(4, TKS_LIF.decay, TKS_LIF.v_threshold/TKS_LIF.gain, c.flatten(1))
    assert (plain.dtype == torch.float32 and
            torch.equal(plain, want.flatten(1))), 'the loop that is compiled'


@pytest.mark.parametrize('name', ('TKS', 'EnOF'))
def test_a_membrane_that_is_not_a_number_does_not_fire_and_stays_so(name):
    p, x, g = NEURONS[name], current('images', torch.float32), current('images', torch.float32, 1)
    x[1, ..., ::2] = torch.nan
    (s, d), (s2, d2) = passes(compiled_lif, p, x, g), passes(lambda x, *_: lif(x, p), p, x, g)
    assert torch.equal(s, s2) and not s[1:, ..., ::2].any() and s[..., 1::2].any()
    close = lambda a, b: torch.allclose(a, b, rtol=1e-5, atol=1e-5, equal_nan=True)
    # before the NaN a reset may keep it from the gradient
    assert close(d[1:], d2[1:]) and close(d[..., 1::2], d2[..., 1::2])


def test_a_still_image_is_read_once_for_all_steps():
    x = torch.randn(1, 2, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    out = []
    for kernel in (compiled_lif, fused_lif):
        y = x.clone().requires_grad_()
        spikes = kernel(y.expand(4, -1, -1, -1, -1), *setting(TKS_LIF))
        spikes.backward(torch.ones_like(spikes))
        out.append((spikes.detach(), y.grad))
    assert (torch.equal(out[0][0], out[1][0]) and
            torch.allclose(out[0][1], out[1][1], rtol=1e-5) and out[0][1].any())


def test_only_the_input_is_kept():
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        x = current('images', torch.float32).requires_grad_()
        compiled_lif(x, *setting(TKS_LIF))
    assert [t.data_ptr() for t in kept] == [x.data_ptr()]


def forget():
    for f in (compiled._ahead, compiled._for_shapes): f.cache_clear()


def counted(x):
    counted.calls += 1
    return 2*x + 1
counted.calls = 0


def test_compiled_code_runs_and_serves_all_sizes():
    assert torch.equal(run_compiled(counted, (), 'tN', torch.ones(2, 30)), torch.full((2, 30), 3.))
    traced = counted.calls
    for n in (2, 7, 5000):
        assert torch.equal(run_compiled(counted, (), 'tN', torch.arange(2.*n).view(2, n)),
                           2*torch.arange(2.*n).view(2, n) + 1)
    assert counted.calls == traced, 'Python was called'
    # a free size of one
    one = run_compiled(counted, (), 'tN', torch.ones(2, 1))
    assert torch.equal(one, torch.full((2, 1), 3.)) and counted.calls == traced + 1


@pytest.mark.slow
def test_the_next_process_loads_what_was_compiled(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    forget()
    def ask(): return run_compiled(counted, (), 'N', torch.ones(9)).tolist() == [3.]*9
    try:
        assert ask()
        file, = (tmp_path/'snn_repro').glob('*')
        with monkeypatch.context() as m:
            def compiler(*_, **__): raise AssertionError('compiled again')
            m.setattr('torch._inductor.aoti_compile_and_package', compiler)
            forget()
            assert ask()
            with pytest.raises(AssertionError, match='compiled again'):
                run_compiled(counted, (), 'N', torch.ones(9, dtype=torch.float64))
        # elsewhere, since a process that has loaded a file need not open it again
        damaged = tmp_path/'next'/file.relative_to(tmp_path)
        damaged.parent.mkdir(parents=True)
        damaged.write_bytes(b'not a library')
        monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path/'next'))
        forget()
        assert ask() and damaged.stat().st_size > 1000, 'a damaged file is made again'
    finally: forget()


@pytest.mark.parametrize('where', ('a file in the way', 'read-only'))
def test_a_cache_that_cannot_be_written_is_replaced_for_the_process(tmp_path, monkeypatch, where):
    home = tmp_path/'home'
    # root may write anywhere
    if where == 'read-only': monkeypatch.setattr('os.access', lambda *_: False)
    else: home.write_text('')
    monkeypatch.setenv('XDG_CACHE_HOME', str(home))
    folder = compiled.cache_folder()
    assert folder.is_dir() and home not in folder.parents


def test_without_a_compiler_it_says_so_once(monkeypatch):
    def broken(*_): raise RuntimeError('InvalidCxxCompiler: No working C++ compiler found')
    forget()
    can_compile.cache_clear()
    monkeypatch.setattr(compiled, '_ahead', broken)
    try:
        with pytest.warns(UserWarning, match='layers are not compiled.*No working C'):
            assert not can_compile('cpu')
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            assert not can_compile('cpu')
            assert torch.equal(run_compiled(counted, (), 'N', torch.ones(9)),
                               torch.full((9,), 3.)), 'called as it is'
    finally:
        for f in (compiled._for_shapes, can_compile): f.cache_clear()
