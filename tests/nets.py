"What the tests of the full-size nets share."
import pytest
import torch
from spikingjelly.activation_based import layer, surrogate
from torch import nn

from snn_repro.nn.layers import TEBN, Arch
from snn_repro.nn.neurons import ATan, Rectangle, Sigmoid, Triangle

FIRES = {ATan: surrogate.ATan, Rectangle: surrogate.Rect, Sigmoid: surrogate.Sigmoid,
         Triangle: surrogate.PiecewiseQuadratic}
NORMED = nn.modules.batchnorm._BatchNorm


def ids(a): return type(a).__name__ if isinstance(a, Arch) else str(a)


@pytest.fixture(autouse=True)
def same_chance():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def build(arch, shape=(3, 32, 32), classes=7, T=2, seed=0):
    torch.manual_seed(seed)
    return arch.build(shape, classes, T)


def constants(p):
    "The constants of `p`, as arguments of SpikingJelly's LIFNode."
    return dict(tau=p.tau, decay_input=p.decay_input, v_threshold=p.v_threshold,
                detach_reset=p.detach_reset,
                surrogate_function=FIRES[type(p.surrogate)](alpha=p.surrogate.alpha))


def in_order(net):
    "Parameters in the order in which a net lists its layers, then TEBN's factors."
    theirs = layer.TemporalEffectiveBatchNorm2d
    factors = [m.p if isinstance(m, TEBN) else m.scale
               for m in net.modules() if isinstance(m, (TEBN, theirs))]
    layers = [m for m in net.modules() if isinstance(m, (nn.Conv2d, nn.Linear, NORMED))]
    return [p for m in layers for p in (m.weight, m.bias) if p is not None] + factors


def norms(net): return [m for m in net.modules() if isinstance(m, NORMED)]


def share(net, oracle):
    "Give both the same lively parameters. The norms must start alike."
    ours, theirs = in_order(net), in_order(oracle)
    assert len(ours) == len(theirs) == len(list(net.parameters())) == len(list(oracle.parameters()))
    for m, n in zip(norms(net), norms(oracle), strict=True):
        assert torch.allclose(m.weight, n.weight) and torch.equal(m.bias, n.bias)
    with torch.no_grad():
        for p, q in zip(ours, theirs):
            p.copy_(p + .5 * torch.rand_like(p) if p.dim() == 1
                    else 6 * (p - p.mean(1, keepdim=True)) if p.dim() == 2 else p)
            assert p.squeeze().shape == q.squeeze().shape
            q.copy_(p.view_as(q))


def compare(net, oracle, clip):
    """Outputs, running statistics and gradients of `net` and of `oracle`, which gives logits and
    features: first in train mode, then in test mode with the statistics of that clip."""
    same = lambda a, b: torch.allclose(a, b.view_as(a), rtol=1e-8, atol=1e-9 * b.abs().max().item())
    for training in (True, False):
        net.train(training), oracle.train(training)
        net.zero_grad(), oracle.zero_grad()
        out, (logits, features) = net(clip), oracle(clip)
        assert same(out.logits, logits) and same(out.features, features)
        # steps and images differ
        assert all((features.std(d) > 0).double().mean() > .25 for d in (0, 1))
        g = torch.randn_like(logits)
        out.logits.backward(g), logits.backward(g)
        for i, (p, q) in enumerate(zip(in_order(net), in_order(oracle))):
            assert same(p.grad, q.grad) and q.grad.any(), f'parameter {i} of shape {list(p.shape)}'
        for m, n in zip(norms(net), norms(oracle)):
            assert (same(m.running_mean, n.running_mean) and same(m.running_var, n.running_var) and
                    m.running_mean.any())
            assert m.num_batches_tracked == n.num_batches_tracked == (1 if training else 2)
        if training:
            # so that the net is alive in test mode too
            for m in norms(net) + norms(oracle): m.momentum = 1.
            with torch.no_grad(): net(clip), oracle(clip)
