"""The fused LIF: spikes forward and back-propagation through time by hand, in few tensor
operations.

A step costs one comparison and one `addcmul` forward, one `addcmul` backward; all that does not
depend on the step before runs once for the whole sequence. Autograd would record some eight
operations a step instead.
"""
import torch
from torch.autograd.function import once_differentiable


def floating(x):
    "`x`; whole numbers and truth values as float32."
    return x if x.is_floating_point() else x.float()


def fused_lif(x, decay: float, gain: float, v_threshold: float, derivative, detach_reset: bool):
    """Spikes `[T, ...]` (0 or 1, dtype of `floating(x)`) of a LIF with input current `x` `[T, ...]`
    of any rank and membrane 0 before the first step.

    Step: `h = decay·u + gain·x`, a spike where `h > v_threshold`, `u = h` where there is none and 0
    where there is. `derivative(v)`, with `v = h - v_threshold`, is the surrogate for the spike's
    derivative; it gets all steps at once and returns a new tensor of the same shape, which this
    function then overwrites. `detach_reset`: no gradient through the reset. A membrane that is not
    a number does not fire, and stays so. The membrane of float16 and bfloat16 input is float32. `x`
    is never written; it may be expanded over `T`. The backward pass keeps one tensor of the size of
    `x`; without a gradient the membranes become the spikes, in place.
    """
    x = floating(x)
    if x.dtype in (torch.float16, torch.bfloat16):
        return fused_lif(x.float(), decay, gain, v_threshold, derivative, detach_reset).to(x.dtype)
    if torch.compiler.is_compiling():
        return _traceable_lif(x, decay, gain, v_threshold, derivative, detach_reset)
    if torch.is_grad_enabled() and x.requires_grad:
        return FusedLIF.apply(x, decay, gain, v_threshold, derivative, detach_reset)
    return _membranes(x, decay, v_threshold/gain).gt_(v_threshold/gain)


def _membranes(x, decay, threshold):
    """The scaled membrane before firing: `a[t] = x[t] + decay·a[t-1]·keep`, where `keep` is 0 after
    a spike, else 1."""
    a, keep = torch.empty_like(x), torch.empty_like(x[0])
    x, steps = x.unbind(), a.unbind()
    steps[0].copy_(x[0])
    for t in range(1, len(x)):
        torch.le(steps[t-1], threshold, out=keep)
        torch.addcmul(x[t], steps[t-1], keep, value=decay, out=steps[t])
    return a


class FusedLIF(torch.autograd.Function):
    "`fused_lif` with its gradient. Works on `a = h/gain`, which saves the product `gain·x`."
    @staticmethod
    def forward(ctx, x, decay, gain, v_threshold, derivative, detach_reset):
        a = _membranes(x, decay, v_threshold/gain)
        ctx.save_for_backward(a)
        ctx.setting = decay, gain, v_threshold, derivative, detach_reset
        return torch.gt(a, v_threshold/gain, out=torch.empty_like(a))

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        (a,), (decay, gain, v_threshold, derivative, detach_reset) = ctx.saved_tensors, ctx.setting
        v = a - v_threshold/gain
        if gain != 1: v *= gain
        slope = derivative(v)
        if gain != 1: slope *= gain                      # ds/da = gain · ds/dh
        keep = v.le_(0)                                  # 1 - s
        if not detach_reset: keep.addcmul_(a, slope, value=-1)
        slope *= grad
        delta, keep = slope.unbind(), keep.unbind()
        for t in reversed(range(len(a) - 1)): delta[t].addcmul_(keep[t], delta[t+1], value=decay)
        return slope, None, None, None, None, None


def _traceable_lif(x, decay, gain, v_threshold, derivative, detach_reset):
    """`fused_lif` for `torch.compile` and `torch.export`, which do not trace tensors that are
    written into: plain operations for autograd.

    A spike is given the surrogate's gradient by a term that is 0, `v - v`, of which only the first
    `v` has a gradient.
    """
    learns, threshold, found = torch.is_grad_enabled() and x.requires_grad, v_threshold/gain, []
    a = keep = None   # the membrane of the step before, and where it was not reset
    for i in x.unbind():
        a = torch.addcmul(i, a, keep, value=decay) if found else i
        s = (a > threshold).to(a.dtype)
        if learns:
            v = (gain*(a - threshold)).nan_to_num()
            s = s + (v - v.detach())*derivative(v.detach())
        keep = 1 - (s.detach() if detach_reset else s)
        found.append(s)
    return torch.stack(found)
