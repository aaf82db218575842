import copy, pickle
from dataclasses import replace
import pytest, torch
from spikingjelly.activation_based import base, functional, monitor, neuron, surrogate
from snn_repro.core.spec import Spec, UserError
from snn_repro.nn.kernels import fused_lif
from snn_repro.nn.neurons import (ENOF_LIF, LIF, TET_LIF, TKS_LIF, ATan, LIFNode, ReLU, Rectangle,
                                  Sigmoid, Surrogate, Tanh, Triangle, lif, lif_trace, spike)

PAPERS = [TKS_LIF, ENOF_LIF, TET_LIF]
SURROGATES = [Triangle(), Triangle(alpha=1.), Rectangle(), Rectangle(alpha=2.), Tanh(), ATan(),
              Sigmoid()]


def fused(x, p):
    return fused_lif(x, p.decay, p.gain, p.v_threshold, p.surrogate.derivative, p.detach_reset)


def draw(shape, dtype=torch.float64, seed=0):
    g = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, generator=g, dtype=dtype)*1.5 + .3,
            torch.randn(shape, generator=g, dtype=dtype))


def gradient(f, x, G):
    x = x.detach().requires_grad_()
    out = f(x)
    return out.detach(), torch.autograd.grad(out, x, G)[0]


@pytest.mark.parametrize('p', PAPERS)
@pytest.mark.parametrize('detach', [True, False])
@pytest.mark.parametrize('shape', [(1,), (7,), (1, 3), (5, 0), (4, 2, 3), (10, 3, 2, 5, 5)])
def test_fused_equals_the_loop(p, detach, shape):
    p = replace(p, detach_reset=detach)
    x, G = draw(shape)
    (s, grad), (s_, grad_) = (gradient(lambda x: fused(x, p), x, G),
                              gradient(lambda x: lif(x, p), x, G))
    assert (s.dtype == x.dtype and torch.equal(s, s_) and
            torch.allclose(grad, grad_, rtol=1e-6, atol=1e-12))


@pytest.mark.parametrize('p', PAPERS)
@pytest.mark.parametrize('scale', [1e-3, .1, 1., 100.])
def test_no_spike_differs_in_float32(p, scale):
    x = draw((12, 20000), torch.float32)[0]*scale
    ties = (x/scale*4).round()/4                       # many membranes exactly at the threshold
    for x in (x, ties):
        assert (torch.equal(fused(x, p), lif(x, p)) and
                torch.equal(fused(x.requires_grad_(), p), lif(x, p)))


@pytest.mark.parametrize('g', SURROGATES)
@pytest.mark.parametrize('detach', [True, False])
def test_every_surrogate_and_any_tau(g, detach):
    p = LIF(tau=3., surrogate=g, detach_reset=detach)
    x, G = draw((6, 300))
    (s, grad), (s_, grad_) = (gradient(lambda x: fused(x, p), x, G),
                              gradient(lambda x: lif(x, p), x, G))
    assert torch.equal(s, s_) and torch.allclose(grad, grad_, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize('g', SURROGATES)
def test_surrogates_leave_their_argument_alone_and_return_a_new_tensor(g):
    v = torch.linspace(-2, 2, 41, dtype=torch.float64)
    before, d = v.clone(), g.derivative(v)
    assert (torch.equal(v, before) and d.data_ptr() != v.data_ptr() and d.dtype == v.dtype and
            (d >= 0).all())
    assert torch.allclose(g.derivative(-v), d)
    h = 1e-6
    slope, kink = (g.cdf(v + h) - g.cdf(v - h))/(2*h), torch.zeros_like(v, dtype=torch.bool)
    for edge in (-1, -.5, -.25, .25, .5, 1): kink |= (v - edge).abs() < 1e-9
    assert torch.allclose(slope[~kink], d[~kink], atol=1e-5)


@pytest.mark.parametrize('T', [1, 4])
@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
def test_expanded_input(T, memory_format):
    still = draw((3, 4, 5, 5))[0].to(memory_format=memory_format)[None]
    x, G = still.expand(T, -1, -1, -1, -1), draw((T, 3, 4, 5, 5))[1]
    before = still.clone()
    (s, grad) = gradient(lambda still: fused(still.expand(T, -1, -1, -1, -1), TKS_LIF), still, G)
    (s_, grad_) = gradient(lambda still: lif(still.expand(T, -1, -1, -1, -1), TKS_LIF), still, G)
    assert torch.equal(s, s_) and torch.allclose(grad, grad_) and torch.equal(still, before)
    assert fused(x, TKS_LIF)[0].is_contiguous(memory_format=memory_format)


def test_layouts_of_input_and_of_incoming_gradient():
    x, G = draw((4, 6, 5))
    want = gradient(lambda x: lif(x, TKS_LIF), x, G)
    swapped = lambda i, j: lambda x: x.transpose(i, j).contiguous().transpose(i, j)
    for view in (swapped(1, 2), swapped(0, 1), lambda x: x.repeat_interleave(2, 2)[..., ::2]):
        got = gradient(lambda x: fused(x, TKS_LIF), view(x), view(G))
        assert torch.equal(got[0], want[0]) and torch.allclose(got[1], want[1])
    # an expanded gradient
    ones = gradient(lambda x: fused(x, TKS_LIF).sum((0, 2)), x, torch.ones(6, dtype=x.dtype))[1]
    assert torch.allclose(ones, gradient(lambda x: lif(x, TKS_LIF), x, torch.ones_like(x))[1])


def test_backward_may_run_twice_but_not_be_differentiated():
    x, G = draw((5, 40))
    x.requires_grad_()
    s = fused(x, ENOF_LIF)
    a, b = (torch.autograd.grad(s, x, G, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(a, b)
    first, = torch.autograd.grad(s, x, G.requires_grad_(), create_graph=True)
    with pytest.raises(RuntimeError): first.sum().backward()


def test_without_a_gradient():
    x = draw((5, 40))[0].requires_grad_()
    with torch.no_grad(): s = fused(x, TKS_LIF)
    assert (not s.requires_grad and torch.equal(s, fused(x, TKS_LIF)) and
            torch.equal(s, fused(x.detach(), TKS_LIF)))


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_keeps_a_float32_membrane(dtype):
    x, G = (o.to(dtype) for o in draw((8, 200), torch.float32))
    (s, grad), (s_, grad_) = (gradient(lambda x: fused(x, TET_LIF), x, G),
                              gradient(lambda x: lif(x, TET_LIF), x.float(), G.float()))
    assert (s.dtype == grad.dtype == dtype and torch.equal(s.float(), s_) and
            torch.allclose(grad.float(), grad_, rtol=1e-2, atol=1e-3))


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
@pytest.mark.parametrize('p', PAPERS)
def test_on_a_gpu(p):
    x, G = (o.cuda() for o in draw((4, 8, 16, 9, 9)))
    (s, grad), (s_, grad_) = (gradient(lambda x: fused(x, p), x, G),
                              gradient(lambda x: lif(x, p), x, G))
    assert torch.equal(s, s_) and torch.allclose(grad, grad_, rtol=1e-6, atol=1e-12)
    assert torch.equal(fused(x.float(), p), lif(x.float(), p))


def node_of_spikingjelly(p):
    g = {Triangle: surrogate.PiecewiseQuadratic, Rectangle: surrogate.Rect, ATan: surrogate.ATan,
         Sigmoid: surrogate.Sigmoid}[type(p.surrogate)]
    return neuron.LIFNode(float(p.tau), p.decay_input, p.v_threshold, 0., g(p.surrogate.alpha),
                          p.detach_reset, step_mode='m')


@pytest.mark.parametrize('p', PAPERS + [replace(TKS_LIF, surrogate=ATan()),
                                        replace(TET_LIF, surrogate=Sigmoid())])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_equals_spikingjelly(p, dtype):
    x, G = draw((8, 64, 128), dtype)
    (s, grad), (s_, grad_) = gradient(p.build(), x, G), gradient(node_of_spikingjelly(p), x, G)
    assert (s != s_).float().mean() < 1e-5   # the last bit may decide about a spike, rarely
    same = (s == s_).all(0)
    assert torch.allclose(grad[:, same], grad_[:, same], rtol=1e-4, atol=1e-5)


def test_stored_membrane_and_its_monitor_equal_spikingjelly():
    x = draw((6, 2, 5), torch.float32)[0]
    ours, theirs = TKS_LIF.build(), node_of_spikingjelly(TKS_LIF)
    ours.store_v_seq = theirs.store_v_seq = True
    seen = monitor.AttributeMonitor('v_seq', False, ours, LIFNode)
    assert (torch.equal(ours(x.requires_grad_()), theirs(x)) and
            torch.allclose(ours.v_seq, theirs.v_seq, atol=1e-6))
    assert torch.equal(seen.records[0], ours.v_seq) and not ours.v_seq.requires_grad
    functional.reset_net(ours)
    assert ours.v_seq is None


def test_node_has_no_state():
    node, x = ENOF_LIF.build(), draw((6, 2, 5), torch.float32)[0].requires_grad_()
    first = node(x)
    first.sum().backward(), node(x).sum().backward()   # nothing is left of the first graph
    assert torch.equal(node(x[:, :1]), first[:, :1]) and not node.state_dict() and node.v == 0.
    for other in (copy.deepcopy(node), pickle.loads(pickle.dumps(node)), node.double().float()):
        assert torch.equal(other(x), first)
    functional.detach_net(node)


def test_node_refuses_single_steps():
    node = TKS_LIF.build()
    assert node.step_mode == 'm' and node.supported_step_mode() == ('m',)
    with pytest.raises(UserError, match="step_mode 's'"): node.step_mode = 's'
    with pytest.raises(UserError): functional.set_step_mode(torch.nn.Sequential(node), 's')
    functional.set_step_mode(node, 'm')


def test_spikingjellys_functional_form_keeps_the_strict_threshold():
    node, x = TKS_LIF.build(), torch.ones(6, 1)
    (s,), _ = base.to_functional_forward(node)((x,), (0.,))
    assert torch.equal(s, lif(x, TKS_LIF)) and s.flatten().tolist() == [0, 1]*3


def test_presets():
    numbers = [(p.decay, p.gain, p.v_threshold, p.detach_reset) for p in PAPERS]
    assert numbers == [(.5, .5, .5, True), (.25, 1., .5, False), (.5, 1., 1., False)]
    assert [p.surrogate for p in PAPERS] == [Triangle(alpha=2.), Rectangle(alpha=1.),
                                             Triangle(alpha=1.)]
    assert len({p.key for p in PAPERS}) == 3


@pytest.mark.parametrize('p', PAPERS + SURROGATES + [ReLU()])
def test_settings_travel_as_json(p): assert Spec.from_dict(p.to_dict()) == p


@pytest.mark.parametrize('make', [lambda: LIF(tau=1.), lambda: LIF(tau=0.),
                                  lambda: LIF(v_threshold=0.), lambda: Triangle(alpha=0.),
                                  lambda: Surrogate(alpha=-1.)])
def test_impossible_values(make):
    with pytest.raises(UserError): make()


def test_integer_values_build():
    assert torch.equal(LIF(tau=2, v_threshold=1).build()(torch.ones(4, 1)*3), torch.ones(4, 1))


def test_spike_is_strict_and_relu_is_relu():
    assert spike(torch.tensor([-1., -0., 0., 1e-40, 1.]), Triangle()).tolist() == [0, 0, 0, 1, 1]
    assert isinstance(ReLU().build(), torch.nn.ReLU) and isinstance(TKS_LIF.build(), LIFNode)


def test_trace():
    x = draw((5, 7))[0]
    h, s, u = lif_trace(x, ENOF_LIF)
    assert (torch.equal(s, lif(x, ENOF_LIF)) and torch.equal(u, torch.where(s > 0, 0., h)) and
            torch.equal(h[0], x[0]))
    assert torch.allclose(h[1:], .25*u[:-1] + x[1:])


WHOLE = [torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]

@pytest.mark.parametrize('p', PAPERS + [LIF(tau=3.)])
@pytest.mark.parametrize('dtype', WHOLE, ids=str)
def test_whole_numbers_are_computed_as_floats(p, dtype):
    c = torch.randint(-1 if dtype.is_signed else 0, 4, (8, 5, 400),
                      generator=torch.Generator().manual_seed(0)).to(dtype)
    want, node = lif(c.float(), p), p.build()
    node.store_v_seq = True
    for s in (lif(c, p), fused(c, p), node(c)):
        assert s.dtype == torch.float32 and torch.equal(s, want)
    assert 0 < want.mean() < 1 and torch.equal(node.v_seq, lif_trace(c.float(), p).u)
    assert torch.equal(fused(c[:1].expand(8, 5, 400), p),
                       lif(c[:1].float().expand(8, 5, 400), p)), 'a still image'


@pytest.mark.parametrize('p',
                         PAPERS + [replace(TKS_LIF, surrogate=g, detach_reset=d)
                                   for g in (Tanh(), ATan(), Sigmoid()) for d in (True, False)])
@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
def test_a_membrane_that_is_not_a_number_does_not_fire_and_stays_so(p, value):
    x, G = draw((6, 300))
    x[2, ::2] = value
    (s, grad), (s_, grad_) = (gradient(lambda x: fused(x, p), x, G),
                              gradient(lambda x: lif(x, p), x, G))
    assert (torch.equal(s, s_) and torch.equal(s, fused(x, p)) and
            torch.allclose(grad, grad_, rtol=1e-12, atol=1e-13, equal_nan=True))
    fired = value == float('inf')                      # it fires once; what 0·∞ leaves is no number
    assert (s[2, ::2] == fired).all() and (value < 0 or not s[3:, ::2].any()) and s[:, 1::2].any()
    if value != -float('inf'): assert lif_trace(x, p).u[2:, ::2].isnan().all()
    assert grad[:, 1::2].isfinite().all(), 'a neuron knows nothing of its neighbours'
    for half in (torch.bfloat16, torch.float16):
        assert torch.equal(fused(x.to(half), p), lif(x.to(half).float(), p).to(half))
    if type(p.surrogate) is Tanh: return               # SpikingJelly has none of its kind
    theirs, grad_theirs = gradient(node_of_spikingjelly(p), x, G)
    assert torch.equal(s[:, ::2], theirs[:, ::2])
    if value != value: assert torch.equal(grad.isnan(), grad_theirs.isnan())
