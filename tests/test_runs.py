"""The committed records say what they claim; a launch goes on past a run that fails; a tier never
sees the method."""
import shutil
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

import packed
from snn_repro.analysis.catalogue import fill, plan, seeds
from snn_repro.analysis.exhibits import EXHIBITS
from snn_repro.core.spec import UserError, variant
from snn_repro.data.image_folders import StanfordDogs
from snn_repro.data.images import CIFAR10
from snn_repro.experiments.experiment import Experiment
from snn_repro.experiments.papers import METHODS, enof_experiment, tks_experiment
from snn_repro.experiments.scaling import MINI_RECIPE, mini
from snn_repro.experiments.tiers import TIERS
from snn_repro.metrics.classification import summary
from snn_repro.records.runs import Runs
from snn_repro.training.environment import load_split, threads
from snn_repro.training.fit import fit, read_weights
from snn_repro.training.launch import launch
from snn_repro.training.loop import build, optimizer, train_epoch

results = Path(__file__).parents[1]/'results/mini'
tier = TIERS['mini']


@pytest.fixture(scope='module')
def records(): return Runs(results)


def test_full_size_records_say_what_they_claim():
    records = list(Runs(results.parent/'full'))
    assert len(records) == 2
    for r in records:
        assert Experiment.from_dict(r.config).id == r.id and not r.env['dirty']
        for k, v in summary(r.outcomes).items():
            np.testing.assert_allclose(r.metrics[k], v, rtol=1e-5, atol=1e-7, err_msg=f'{r.id} {k}')


def test_every_row_with_an_experiment_has_all_its_seeds(records):
    for exhibit in EXHIBITS:
        for row, found in fill(exhibit, tier, records):
            here = row.experiment and tier.scale(row.experiment)
            assert [r.seed for r in found] == (list(seeds(exhibit, tier)) if here else [])


def test_the_records_are_those_of_the_plan_and_no_others(records):
    assert {r.id for r in records} == {e.id for e in plan(EXHIBITS, tier)}
    for r in records: assert Experiment.from_dict(r.config).id == r.id


def test_every_committed_number_follows_from_the_outcomes(records):
    for r in records:
        for k, v in summary(r.outcomes).items():
            np.testing.assert_allclose(r.metrics[k], v, rtol=1e-5, atol=1e-7, err_msg=f'{r.id} {k}')
        assert set(r.env) >= {'versions', 'commit', 'hardware', 'data', 'seconds'}


def test_runs_of_a_seed_saw_the_same_data_and_one_teacher(records):
    data, teachers = {}, {}
    for r in records:
        data.setdefault((r.config['data']['type'],
                         r.config['T'] if r.config['data']['type'] == 'EventDigits' else 0, r.seed),
                        set()).add(r.env['data'])
        if 'teacher' in r.env and r.config['init'] != 'trained':
            teachers.setdefault((r.config['data']['type'], r.config['arch'].get('depth'), r.seed),
                                set()).add(r.env['teacher']['weights'])
    assert all(len(s) == 1 for s in [*data.values(), *teachers.values()]) and teachers


def test_committed_evidence_is_small():
    assert sum(f.stat().st_size for f in results.parent.rglob('*') if f.is_file()) < 40e6


def test_a_packed_folder_that_was_changed_is_refused(tmp_path):
    shutil.copytree(results, tmp_path, dirs_exist_ok=True)
    lines, done = packed.lines(tmp_path), (tmp_path/'done.json').read_bytes()
    lines[0]['metrics']['top1'] += .01
    packed.write_lines(tmp_path, lines)
    (tmp_path/'done.json').write_bytes(done)
    with pytest.raises(UserError, match='records.jsonl.xz: changed'): Runs(tmp_path)
    (tmp_path/'done.json').unlink()
    with pytest.raises(UserError, match='no done.json'): Runs(tmp_path)


def tiny(seed=0, **recipe):
    e = mini(tks_experiment('CIFAR10', 'ResNet19', 'TKS'))
    return replace(e, seed=seed, data=replace(e.data, train_per_class=5, test=50),
                   recipe=replace(MINI_RECIPE, epochs=6, **recipe))


@pytest.mark.slow
def test_a_run_that_fails_is_told_and_does_not_stop_the_others(tmp_path):
    good, bad, other = tiny(0), tiny(0, optimizer='sgd', lr=1e30), tiny(1)
    failure, = launch([good, bad, other], tmp_path, workers=2)
    assert failure.id == bad.id and 'lower recipe.lr' in failure.reason
    assert (Runs(tmp_path).get(good) and Runs(tmp_path).get(other) and
            Runs(tmp_path).get(bad) is None)
    assert launch([good, other], tmp_path) == []


@pytest.mark.parametrize('init', ('ann', 'trained'))
def test_a_run_goes_on_from_the_weights_that_init_names(init, tmp_path):
    "The same epoch trained by hand from the finished run's weights."
    e = replace(mini(enof_experiment(CIFAR10(), 'ResNet-20', 2, init=init)),
                recipe=replace(MINI_RECIPE, epochs=1))
    ends = read_weights(tmp_path/fit(e, tmp_path).id)
    split, _ = load_split(e.data, None, e.seed, e.T)
    net = build(e, split)
    assert any((w != ends[k]).any() for k, w in net.state_dict().items())
    net.load_state_dict(read_weights(tmp_path/e.teacher.id))
    # as many as a run has by default: the same bytes
    with threads(1): train_epoch(e, net, split.train, optimizer(net, e.recipe), 0)
    for k, w in net.state_dict().items(): torch.testing.assert_close(w, ends[k], rtol=0, atol=0)


@pytest.mark.parametrize('name', TIERS)
def test_a_tier_never_sees_the_method(name):
    scale = TIERS[name].scale
    papers = [tks_experiment('CIFAR100', 'SEW-ResNet-19', 'TET*'),
              tks_experiment('DVS-CIFAR10', 'VGG-SNN', 'TKS'),
              tks_experiment('StanfordCars', 'SEW-ResNet-34', 'TKS'),
              tks_experiment('StanfordDogs', 'SEW-ResNet-34', 'TKS'),
              enof_experiment(CIFAR10(), 'ResNet-20', 2, 'L_AF')]
    for e, objective, readout, init in product(papers, METHODS.values(), ('lif', 'relu'),
                                               ('fresh', 'ann', 'trained')):
        if init == 'trained' and any(o.needs_teacher for o in objective): continue
        change = lambda x: x and replace(x, objective=objective,
                                         arch=replace(x.arch, readout=readout), init=init)
        assert scale(change(e)) == change(scale(e))   # None on both sides where nothing stands in
        if scaled := scale(change(e)):
            assert (variant(scaled, 'paper').objective ==
                    scale(variant(change(e), 'paper')).objective)
    assert ([bool(scale(e)) for e in papers] ==
            [name != 'small' or not isinstance(e.data, StanfordDogs) for e in papers])
