"""A net as a list of layers, for who writes it in another form.

The layers are followed through the forward pass by `torch.fx`, whatever blocks they stand in; time
is not unrolled, and what folds it into the batch is left out.
"""
import inspect, operator
from collections import OrderedDict, defaultdict
from functools import partial
from typing import NamedTuple

import torch
from torch import fx, nn

from snn_repro.core.spec import UserError, check
from snn_repro.nn.layers import TDBN, TEBN, Folded, SpikingNet
from snn_repro.nn.neurons import LIFNode

# what PyTorch's layers are made of: the names of their arguments, which are also their attributes
ARGUMENTS = {nn.Conv2d: 'in_channels out_channels kernel_size stride padding dilation groups '
                        'padding_mode',
             nn.BatchNorm2d: 'num_features eps momentum affine track_running_stats',
             nn.AvgPool2d: 'kernel_size stride padding ceil_mode count_include_pad '
                           'divisor_override',
             nn.MaxPool2d: 'kernel_size stride padding dilation return_indices ceil_mode',
             nn.AdaptiveAvgPool2d: 'output_size', nn.Linear: 'in_features out_features',
             nn.Flatten: '', nn.ReLU: ''}
SUMS = (operator.add, operator.iadd, torch.add)


def kind(m: nn.Module) -> type[nn.Module] | None:
    "PyTorch's class of which `m` is a layer, one of `ARGUMENTS`, or None."
    return nn.BatchNorm2d if type(m) is TDBN else type(m) if type(m) in ARGUMENTS else None


def arguments(m: nn.Module) -> dict:
    "The arguments that make a layer like `m`, whose `kind` is known, where they are no defaults."
    of = kind(m)
    usual = {k: p.default for k, p in inspect.signature(of).parameters.items()}
    said = {k: getattr(m, k) for k in ARGUMENTS[of].split()}
    if of in (nn.Conv2d, nn.Linear): said['bias'] = m.bias is not None
    return {k: v for k, v in said.items() if v not in (usual[k], 2*(usual[k],))}


class Step(NamedTuple):
    """A layer of a net: its `name`, the `module` (None: the sum of its inputs), the names of the
    steps that its `inputs` come from ('x' is the net's input), and the `shape` of one sample, at
    one step in time, of the first of them (None for sums)."""
    name: str
    module: nn.Module | None
    inputs: tuple[str, ...]
    shape: tuple[int, ...] | None


class _Tracer(fx.Tracer):
    "Goes into blocks. Time that is folded into the batch stays time."
    def is_leaf_module(self, m, name):
        return bool(isinstance(m, (LIFNode, TEBN)) or kind(m) or m.__module__.startswith('torch.')
                    and not isinstance(m, nn.Sequential))

    def call_module(self, m, forward, args, kwargs):
        if isinstance(m, Folded): forward = partial(nn.Sequential.forward, m)
        return super().call_module(m, forward, args, kwargs)


def _refused(what: str) -> UserError:
    return UserError(what, 'the layers of this net', 'use modules of torch.nn, LIF, and sums; or '
                     'write it with --to torch')


def _follow(source: str, shapes: dict, **parts: nn.Module) -> list[Step]:
    "The steps of `parts`, one after the other, that begin at the step `source`."
    root, names, steps = nn.Sequential(OrderedDict(parts)), {}, []
    try: graph = _Tracer().trace(root)
    except Exception as e:   # a forward pass may do anything with what stands in for a tensor
        raise _refused(f'its forward pass cannot be followed ({type(e).__name__})') from e
    for node in graph.nodes:
        inputs = tuple(names[n] for n in node.all_input_nodes)
        if node.op == 'placeholder': names[node] = source
        elif node.op == 'call_module':
            m = root.get_submodule(node.target)
            if isinstance(m, nn.Identity): names[node] = inputs[0]
            else: steps.append(Step(str(node), m, inputs, shapes[node.target].pop(0)))
        elif node.op == 'call_function' and node.target in SUMS and len(inputs) == 2:
            steps.append(Step(str(node), None, inputs, None))
        elif node.op != 'output':
            name = getattr(node.target, '__name__', node.target)
            raise _refused(f'{name} in its forward pass is no layer')
        names.setdefault(node, str(node))
    return steps


def _shapes(net: SpikingNet, shape: tuple[int, ...]) -> dict[str, list[tuple[int, ...]]]:
    """What each module's input has of one sample at one step, call by call: without [T,B], or [T*B]
    where folded."""
    found = defaultdict(list)
    def note(name):
        def hook(m, args):
            x = args[0]
            found[name].append(tuple(x.shape[2 if x.ndim % 2 else 1:]))
        return hook
    hooks = [m.register_forward_pre_hook(note(n)) for n, m in net.named_modules() if n]
    try:
        with torch.inference_mode(): net(torch.zeros(1, *shape).to(net.classifier.weight))
    finally:
        for h in hooks: h.remove()
    return found


def layers_of(net: SpikingNet, shape: tuple[int, int, int]) -> tuple[list[Step], list[Step]]:
    """The layers of `net`, in test mode, for images of `shape` (C,H,W): those of its stem, which
    see a still image once, and those that see every step. Raises `UserError` for a forward pass
    that is more than layers and sums."""
    check(type(net).forward is SpikingNet.forward, 'its forward pass is its own',
          type(net).__name__, 'build a SpikingNet, or write it with --to torch')
    shapes = _shapes(net, shape)
    stem = _follow('x', shapes, stem=net.stem)
    last = stem[-1].name if stem else 'x'
    return stem, _follow(last, shapes, body=net.body, classifier=net.classifier)
