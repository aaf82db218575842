"""Arithmetic as another processor might do it.

What matrix products, convolutions, exponentials, sums and normalisations return is multiplied by
1 + d or 1 - d, forward and backward, where d is about the last bit of the type.

As on a processor, the same call gives the same result twice: the signs are a function of the seed,
the operation, its inputs' shapes and strides, its result, and the place in it. A batch that is cut
in two, or an image at another place of it, may come out different in the last bit.
A logarithm of a sum changes by what rounding does to the sum's terms, however small it is itself.
Sums that every processor does exactly, such as counts of spikes or a sum of one term, stay as they
are, and so do exp(0), saturated sigmoids and the like.

The kernels are replaced, not the calls: a TorchDispatchMode would see one thread only, and every
operation.
"""
import warnings, zlib
from functools import cache

import torch

OF_ONE_TENSOR = 'sum', 'sum.dim_IntList', 'mean', 'mean.dim'
SUMS = (*OF_ONE_TENSOR, 'dot', 'mv', 'mm', 'bmm', 'addmm', 'addmv', 'baddbmm', 'convolution')
BOUNDED = 'exp', 'sigmoid', 'tanh', '_softmax'
LOGS = '_log_softmax', 'logsumexp'
OTHERS = ('_softmax_backward_data', '_log_softmax_backward_data', 'nll_loss_forward',
          'convolution_backward', 'native_batch_norm', 'native_batch_norm_backward',
          'var.correction', 'std.correction', 'var_mean.correction', 'linalg_vector_norm',
          '_cdist_forward')
LAST_BIT = {torch.float32: 1e-7, torch.float64: 4e-16}
POOL = 2**20


@cache
def pool(dtype, seed):
    "Factors 1 ± the last bit, in a random order."
    signs = torch.randint(2, (POOL,), generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return (1 + LAST_BIT[dtype] * signs.double()).to(dtype)


def factors(like, call, seed):
    "A factor for each element of a tensor that the `call` returned."
    many, n = pool(like.dtype, seed), like.numel()
    start = zlib.crc32(like.contiguous().numpy(), zlib.crc32(repr(call).encode())) % POOL
    if start + n > POOL: many = many.repeat(2 + n // POOL)
    return many[start:start + n].view(like.shape)


def exact(x) -> bool:
    """Whether any sum of elements of `x` is without rounding, in whichever order.
    Whole numbers, or multiples of 1/1024, and neither many nor large."""
    if (x.flatten()[:32] * 1024).frac().any(): return False
    most = x.abs().amax() * x.numel()
    return any(most * scale <= 2**24 and not (x * scale).frac().any() for scale in (1, 1024))


def tensors(values):
    for v in values:
        if isinstance(v, torch.Tensor): yield v
        elif isinstance(v, (tuple, list)): yield from tensors(v)


def added(name, inputs):
    """What a product of these inputs is added to, or None.
    Where the product is zero, nothing is rounded."""
    if name in ('addmm', 'addmv', 'baddbmm'): return inputs[0]
    if name == 'convolution' and len(inputs) == 3:
        return inputs[2].view(-1, *[1] * (inputs[0].dim() - 2))


def jitter(out, inputs, name, seed):
    "Changes the last bits of `out`, in place."
    numbers = [t for t in inputs if t.dtype in LAST_BIT and t.numel()]
    if name in SUMS and all(map(exact, sorted(numbers, key=torch.numel))): return
    if name in OF_ONE_TENSOR and out.numel() == inputs[0].numel(): return   # of one term each
    call = name, [(tuple(t.shape), t.stride()) for t in inputs]
    for t in tensors([out]):
        if t.dtype not in LAST_BIT or not t.numel(): continue
        by = factors(t, call, seed)
        if name in BOUNDED: by = by.where((2 * t).frac() != 0, 1)
        if (bias := added(name, inputs)) is not None: by = by.where(t != bias, 1)
        if name in LOGS: t.add_((by - 1) * (t != 0) * inputs[0].shape[-1]**.5)
        else: t.mul_(by)
    if name == '_log_softmax': out.clamp_(max=0)


def pretend(seed: int):
    "From here on this process computes on a processor that does not exist."
    # kept: its kernels go when it goes
    library = pretend.library = torch.library.Library('aten', 'IMPL')

    def replace(name):
        kernel = torch.library.get_kernel(f'aten::{name}', 'CPU')
        def other(keys, *args, **kwargs):
            out = kernel.call_boxed(keys, *args, **kwargs)
            jitter(out, list(tensors([*args, *kwargs.values()])), name, seed)
            return out
        library.impl(name, other, 'CPU', with_keyset=True)

    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', 'Warning only once for all operators')
        for name in SUMS + BOUNDED + LOGS + OTHERS: replace(name)
