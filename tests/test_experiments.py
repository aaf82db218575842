"""The settings of the rows are the papers', written down here a second time; the schedules are
timm's and PyTorch's."""
from dataclasses import replace

import pytest
import torch

from snn_repro.analysis.exhibits import EXHIBITS, names
from snn_repro.analysis.rows import paper_table
from snn_repro.core.spec import UserError
from snn_repro.data.augment import CropFlip, NoAugment
from snn_repro.data.images import CIFAR10
from snn_repro.data.policies import (AutoAugmentCutout, CropFlipRotate, FlipRoll,
                                     RandomResizedCropFlip, Strong)
from snn_repro.experiments.experiment import Recipe, lr_at
from snn_repro.experiments.papers import ENOF_RECIPE, TKS_RECIPE, enof_experiment, tks_experiment
from snn_repro.experiments.provenance import paper_of
from snn_repro.losses.objectives import CE, TET
from snn_repro.nn.neurons import ReLU

# data set -> T, temperature, peak, optimiser, weight decay, augmentation (with the star), sampler:
# TKS, sections 4 and 5, and the official code
TKS_FACTS = {'CIFAR10': (4, 3, .7, 'adamw', .01, Strong(), 'shuffle'),
             'CIFAR100': (4, 3, .7, 'adamw', .01, Strong(), 'shuffle'),
             'ImageNet-1K': (4, 1, .7, 'adam', 0, RandomResizedCropFlip(jitter=.4), 'shuffle'),
             'DVS-CIFAR10': (10, 5, .3, 'adamw', .01, CropFlipRotate(pad=4, degrees=15), 'shuffle'),
             'NCALTECH101': (10, 5, .3, 'adamw', .01, NoAugment(), 'balanced'),
             'CUB-200-2011': (4, 3, .7, 'adamw', .01, RandomResizedCropFlip(), 'shuffle'),
             'StanfordDogs': (4, 3, .7, 'adamw', .01, RandomResizedCropFlip(), 'shuffle'),
             'StanfordCars': (4, 3, .7, 'adamw', .01, RandomResizedCropFlip(), 'shuffle')}
ROWS = {n: e for x in EXHIBITS for n, e in names(x).items()}


@pytest.mark.parametrize('dataset', TKS_FACTS)
def test_tks_rows(dataset):
    T, temperature, peak, optimizer, decay, augment, sampler = TKS_FACTS[dataset]
    arch = {2: 'VGG-SNN', 224: 'SEW-ResNet-18'}.get(
        2 if T == 10 else 224 if 'Resized' in type(augment).__name__ else 32, 'ResNet-19')
    e = tks_experiment(dataset, arch, 'TKS*' if dataset.startswith('CIFAR') else 'TKS')
    o, r = e.objective[0], e.recipe
    assert ((e.T, o.temperature, o.peak, e.augment, e.init) ==
            (T, temperature, peak, augment, 'fresh'))
    assert ((o.combine, o.detach_teacher, o.squared, o.none_correct, o.ramp, o.select) ==
            ('sum', False, True, 'uniform', 'epoch', 'correct'))
    assert (r.optimizer, r.weight_decay, r.sampler, r.batch, r.epochs, r.warmup, r.lr, r.min_lr,
            r.warmup_lr) == (optimizer, decay, sampler, 128, 600, 5, 5e-3*128/1024, 1e-5, 1e-6)
    n = e.arch.neuron
    assert (n.tau, n.decay_input, n.v_threshold, n.detach_reset, type(n.surrogate).__name__,
            n.surrogate.alpha) == (2, True, .5, True, 'Triangle', 2)
    for method, objective in (('Baseline', CE()), ('LS', CE(smoothing=.1)),
                              ('TET', TET(mse_weight=0))):
        other = tks_experiment(dataset, arch, method + ('*' if dataset.startswith('CIFAR') else ''))
        assert other == replace(e, objective=(objective,))


def test_a_star_is_the_strong_augmentation():
    assert (tks_experiment('CIFAR10', 'ResNet-19', 'TKS').augment == CropFlip(pad=4) and
            tks_experiment('CIFAR10', 'ResNet-19', 'TKS*').augment == Strong())


def test_enof_rows():
    enof = [e for e in ROWS.values() if paper_of(e) == 'enof' and
            not isinstance(e.arch.neuron, ReLU)]
    ablation, twice, joined, depth, energy, tables = 18, 1, 3, 4, 12, 6 + 6 + 1 + 1
    assert len(enof) == ablation + twice + joined + depth + energy + tables
    for e in enof:
        data, r, n = type(e.data).__name__, e.recipe, e.arch.neuron
        assert ((r.optimizer, r.lr, r.momentum, r.weight_decay, r.min_lr, r.warmup) ==
                ('sgd', .1, .9, 1e-4, 0, 0))
        assert (r.epochs, r.batch) == ((320, 320) if data == 'ImageNet1k' else (400, 128))
        augment = {'DVSCIFAR10': FlipRoll(shift=5), 'ImageNet1k': RandomResizedCropFlip()}.get(
            data, replace(AutoAugmentCutout(), hole=16))
        assert e.augment == augment
        assert (n.decay, n.gain, n.v_threshold, n.detach_reset) == (.25, 1, .5, False)
        for o in e.objective[1:]:
            assert (o.weight, o.temperature, getattr(o, 'per_step', False)) == (.1, 20, False)
    assert ({e.T for e in enof if type(e.data).__name__ == 'DVSCIFAR10'} == {10} and
            {e.T for e in enof if type(e.data).__name__ == 'ImageNet1k'} == {4})


@pytest.mark.parametrize('table', ['tks_table1', 'tks_table2'])
def test_a_row_has_its_lines_net_set_and_steps(table):
    exhibit = next(x for x in EXHIBITS if x.id == table.replace('_', '-'))
    nets = {'ResNet-19': 'ResNet19', 'VGG-SNN': 'VGGSNN', 'Spiking-ResNet-34': 'EnofResNet34'}
    sets = {'CIFAR10': 'CIFAR10', 'CIFAR100': 'CIFAR100', 'ImageNet-1K': 'ImageNet1k',
            'DVS-CIFAR10': 'DVSCIFAR10', 'NCALTECH101': 'NCaltech101'}
    expressible = ('Ours', '[5]', '[6]', '[23]', '[24]')
    for d, row in zip(paper_table(table), exhibit.rows, strict=True):
        assert (row.experiment is not None) == (d['ref'] in expressible)
        if not row.experiment: continue
        e = row.experiment
        assert (type(e.arch).__name__ ==
                nets.get(d['architecture'], d['architecture'].replace('-', '')) and
                e.T == int(d['T']))
        assert type(e.data).__name__ == sets[d['dataset']]
        assert getattr(e.arch, 'norm') == {'TEBN': 'tebn', 'STBP-tdBN': 'tdbn'}.get(
            d['method'].strip('*'),
            'tdbn' if e.arch == type(e.arch)() and 'ResNet19' == type(e.arch).__name__ else 'bn')


def test_tks_schedule_is_timms():
    from timm.scheduler import CosineLRScheduler
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=TKS_RECIPE.lr)
    theirs = CosineLRScheduler(optimizer, t_initial=600, lr_min=1e-5, warmup_t=5,
                               warmup_lr_init=1e-6)
    for epoch in range(600):
        theirs.step(epoch)
        assert lr_at(TKS_RECIPE, epoch) == pytest.approx(optimizer.param_groups[0]['lr'], rel=1e-9)


@pytest.mark.parametrize('recipe',
                         [ENOF_RECIPE, Recipe(optimizer='sgd', lr=.3, min_lr=.01, epochs=7)])
def test_schedule_without_warmup_is_pytorchs(recipe):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=recipe.lr)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=recipe.epochs,
                                                        eta_min=recipe.min_lr)
    for epoch in range(recipe.epochs):
        assert lr_at(recipe, epoch) == pytest.approx(optimizer.param_groups[0]['lr'],
                                                     rel=1e-6, abs=1e-9)
        optimizer.step()
        theirs.step()


@pytest.mark.parametrize('make, word', [
    (lambda: tks_experiment('CIFAR-10', 'ResNet19', 'TKS'), "'CIFAR-10'"),
    (lambda: tks_experiment('CIFAR10', 'ResNet19', 'EnOF'), "'EnOF'"),
    (lambda: tks_experiment('CIFAR10', 'ResNet', 'TKS'), "'ResNet'"),
    (lambda: tks_experiment('CIFAR10', 'ResNet19', 'TKS', T=0), 'T is 0'),
    (lambda: enof_experiment(CIFAR10(), 'ResNet19', 2), "'ResNet19'"),
    (lambda: enof_experiment(CIFAR10(), 'ResNet-20', 2, 'L-AF'), "'L-AF'")])
def test_unknown_labels_are_told(make, word):
    with pytest.raises(UserError, match=word): make()
