"""On a GPU: the same nets, losses and records as on a processor, but for rounding.

Skipped where there is none. `SNN_REPRO_DEVICE=cpu` plays them on the processor, which shows at
least that they can be run.
"""
import os
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from conftest import power_cut
from torch import nn

from snn_repro.analysis.exhibits import asked
from snn_repro.core.distributed import Distributed
from snn_repro.core.spec import UserError
from snn_repro.experiments.tiers import find_tier
from snn_repro.models.small import SmallResNet, SmallVGG
from snn_repro.nn.compiled import compiled_lif
from snn_repro.nn.fused import HOW, fuse
from snn_repro.nn.kernels import fused_lif
from snn_repro.nn.neurons import ENOF_LIF, TET_LIF, TKS_LIF
from snn_repro.training.environment import Runtime, load_split, probe
from snn_repro.training.fit import fit
from snn_repro.training.launch import launch

DEVICE = os.environ.get('SNN_REPRO_DEVICE', 'cuda')
pytestmark = pytest.mark.skipif(DEVICE == 'cuda' and not torch.cuda.is_available(),
                                reason='needs a GPU')
NAMES = ('tks-table3-cifar10-resnet19-baseline', 'tks-table3-cifar10-resnet19-tks',
         'tks-table2-dvs-cifar10-tks-vgg-snn-10', 'enof-ablation-4-l_af-repact')


def miniature(name, epochs=2):
    e = asked(name, find_tier('mini'))[1]
    return replace(e, recipe=replace(e.recipe, epochs=epochs, test_every=epochs))


def relative(a, b): return ((a - b).norm()/b.norm().clamp_min(1e-30)).item()


@pytest.mark.parametrize('p', (TKS_LIF, ENOF_LIF, TET_LIF))
@pytest.mark.parametrize('layer', (compiled_lif, fused_lif))
def test_a_layer_fires_as_on_the_processor(layer, p):
    g = torch.Generator().manual_seed(0)
    x, G = (torch.randn(4, 16, 16, 9, 9, generator=g, dtype=torch.float64) for _ in range(2))
    def both(f, x, G):
        s = f(x := x.requires_grad_(), p.decay, p.gain, p.v_threshold, p.surrogate.derivative,
              p.detach_reset)
        return s.detach().cpu(), torch.autograd.grad(s, x, G)[0].cpu()
    (s, grad), (s_, grad_) = both(layer, x.to(DEVICE), G.to(DEVICE)), both(fused_lif, x.clone(), G)
    assert torch.equal(s, s_) and 0 < s.mean() < 1 and relative(grad, grad_) < 1e-12


@pytest.mark.parametrize('keep', (None, *HOW))
@pytest.mark.parametrize('arch', (SmallResNet(depth=2), SmallVGG()), ids=('residual', 'VGG'))
def test_a_net_learns_as_on_the_processor(arch, keep):
    torch.manual_seed(0)
    here, x = arch.build((2, 16, 16), 10, 4).double(), torch.randn(4, 6, 2, 16, 16).double()
    there = deepcopy(here).to(DEVICE)
    if keep: assert fuse(there, keep)
    def passes(net, x):
        out = net(x)
        y = torch.arange(6, device=x.device)
        nn.functional.cross_entropy(out.logits.mean(0), y).backward()
        return out.logits.detach().cpu(), [p.grad.cpu() for p in net.parameters()]
    (logits, grads), (logits_, grads_) = passes(there, x.to(DEVICE)), passes(here, x)
    assert relative(logits, logits_) < 1e-6
    assert max(map(relative, grads, grads_)) < 1e-6
    for a, b in zip(there.buffers(), here.buffers()):
        assert torch.allclose(a.cpu().double(), b.double(), rtol=1e-6)


@pytest.mark.parametrize('name', NAMES)
def test_the_first_losses_are_those_of_the_processor(name, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', False)
    e = miniature(name, 12)
    split, _ = load_split(e.data, None, e.seed, e.T)
    there = split._replace(train=split.train.to(DEVICE))
    a, b = probe(e, there, Distributed(device=DEVICE)), probe(e, split)
    assert a.keys() == b.keys() and b
    for k in b: assert a[k] == pytest.approx(b[k], rel=1e-3), k


@pytest.mark.parametrize('precision', ('float32', 'bf16'))
@pytest.mark.parametrize('name', NAMES)
def test_a_run_leaves_a_record_and_goes_on_after_a_stop(name, precision, tmp_path):
    e = miniature(name)
    e = replace(e, recipe=replace(e.recipe, precision=precision))
    how = Runtime(device=DEVICE, checkpoint=0)
    if e.teacher: fit(e.teacher, tmp_path, how)
    with power_cut(after=3): fit(e, tmp_path, how)
    done = fit(e, tmp_path, how)
    first, *_, last = done.history['train']
    assert done.env['device'] == DEVICE and last > first
    assert len(done.history) == e.recipe.epochs
    if DEVICE == 'cuda': assert torch.cuda.get_device_name() == done.env['hardware']['gpu']


@pytest.mark.parametrize('keep', HOW)
def test_a_fused_run(keep, tmp_path):
    done = fit(miniature(NAMES[1]), tmp_path, Runtime(device=DEVICE, fuse=keep))
    first, *_, last = done.history['train']
    assert done.env['fused'] == keep and last > first


def test_workers_share_a_gpu(tmp_path):
    todo = [miniature(NAMES[0]), miniature(NAMES[1])]
    assert launch(todo, tmp_path, Runtime(device=DEVICE), workers=2) == []


@pytest.mark.skipif(DEVICE != 'cuda', reason='needs a GPU')
def test_a_full_memory_is_told_in_one_line(tmp_path):
    e = miniature(NAMES[0])
    load_split(e.data, None, e.seed, e.T)
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1e-6)
    try:
        with pytest.raises((UserError, torch.OutOfMemoryError), match='memory'):
            fit(e, tmp_path, Runtime(device=DEVICE))
    finally: torch.cuda.set_per_process_memory_fraction(1.)
