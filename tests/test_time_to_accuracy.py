"""A sprint counts every run of its setting, says what it found, and claims nothing that the runs do
not carry."""
import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from conftest import NAME
from snn_repro.analysis.exhibits import find_experiment
from snn_repro.bench.time_to_accuracy import claim, entered, header, run_all, to_the_end
from snn_repro.core.spec import UserError, edits
from snn_repro.experiments.tiers import find_tier
from snn_repro.training.environment import Runtime

TINY = ('recipe.epochs=2', 'recipe.test_every=1', 'data.train_per_class=5', 'data.test=50')
ASK = ('sprint', NAME, '--tier', 'mini', *(x for t in TINY for x in ('--set', t)))


def run(seed=0, top1=.95, cpu='A', seconds=10., **other):
    env = {'hardware': {'cpu': cpu, 'cores': 2}, 'device': 'cpu', 'versions': {'torch': '2'},
           'processes': 1, 'threads': 1, 'fused': None, 'commit': 'c', 'dirty': False}
    return [SimpleNamespace(id=f'x-s{seed}-0', setting='x-0', seed=seed, metrics={'top1': top1},
                            env=env | {'seconds': seconds} | other, config={})]


def test_the_mean_of_all_runs_decides():
    five = [run(s, t, seconds=10. + s) for s, t in enumerate((.93, .95, .94, .94, .945))]
    c = claim(five, 94)
    assert (c['holds'] and c['n'] == 5 and c['top1']['mean'] == pytest.approx(94.1) and
            c['seconds'] == {'mean': 12, 'least': 10, 'most': 14})
    assert c['top1']['low'] < 94 < c['top1']['high'] and not claim(five, 94.2)['holds']
    assert not claim([*five, run(5, .90)], 94)['holds'], 'one bad run more'
    assert ('94 % top-1 in 12.0 s holds: n = 5, every run counted, mean 94.10 %' in header(c)
            and '10.0 to 14.0 s a run' in header(c))


def test_few_runs_claim_nothing():
    c = claim([run()], 10)
    assert (json.loads(json.dumps(c, allow_nan=False)) == c and not c['holds'] and
            'does not hold' in header(c) and
            'Fewer than five runs make no claim' in header(c) and
            'nan' not in header(c))


@pytest.mark.parametrize('other', ({'cpu': 'B'}, {'device': 'cuda:0'}, {'threads': 2},
                                   {'commit': 'd'}, {'dirty': True}, {'fused': 'maps'}))
def test_runs_of_two_machines_are_not_mixed(other):
    with pytest.raises(UserError, match='different environments.*--out'):
        claim([run(), run(1, **other)], 10)
    with pytest.raises(UserError, match='different environments'):
        claim([run() + run(0, **other)], 10)   # a teacher's


def test_the_name_of_the_gpu_is_in_the_header():
    r, = run()
    r.env['hardware']['gpu'] = 'GPU 9000'
    assert 'GPU 9000, cpu, torch 2, fused: no' in header(claim([[r]], 10))


def test_every_seed_that_was_launched_is_entered(tmp_path):
    e = find_tier('mini').scale(find_experiment(NAME))
    for folder in (replace(e, seed=7).id, replace(e, seed=0).id, replace(e, T=e.T + 1, seed=9).id,
                   f'{e.slug}-sx-{e.key}'):
        (tmp_path/folder).mkdir()
    assert ([x.seed for x in entered(e, 2, tmp_path)] == [0, 1, 7] and
            {x.key for x in entered(e, 2, tmp_path)} == {e.key})


def test_the_teachers_time_is_counted(tmp_path):
    e = to_the_end(edits(find_tier('mini').scale(find_experiment('enof-ablation-2-l_af')),
                                TINY))
    (r, taught), = laps = run_all(e, 1, tmp_path, Runtime())
    assert taught.id == e.teacher.id and min(x.env['seconds'] for x in laps[0]) > 0
    assert claim(laps, 5)['runs'] == [{'id': r.id, 'seed': 0, 'top1': 100*r.metrics['top1'],
                                              'seconds': r.env['seconds'] + taught.env['seconds']}]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([r.id, e.teacher.id]), (
        'the first epoch leaves nothing')


def test_the_verb(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = cli(*ASK, '--goal', 5, '--seeds', 2, '--json', 'new/sprint.json')
    out = ' '.join(out.split())
    assert all('the part tks of the loss is 0' in line for line in err)   # of one epoch
    assert (code == 0 and '5 % top-1 in' in out and 'n = 2' in out and
            'make no claim' in out)
    c = json.loads((tmp_path/'new/sprint.json').read_text())
    assert ([r['seed'] for r in c['runs']] == [0, 1] and not c['holds'] and
            c['config']['recipe']['test_every'] == 2)
    history = (tmp_path/'runs/sprint'/c['runs'][0]['id']/'history.csv').read_text().splitlines()
    assert (len(history) == 3 and history[1].endswith(',') and
            not history[2].endswith(',')), 'tested once'
    assert 'fused: no' in out and not (tmp_path/'board').exists()
    monkeypatch.setattr('snn_repro.training.fit._train', None)   # nothing is left to train
    assert cli(*ASK, '--goal', 5, '--seeds', 1)[1].count('-s1-') == 1


def test_the_first_epoch_has_no_warm_up_and_no_tensorboard(tmp_path):
    e = edits(find_tier('mini').scale(find_experiment(NAME)), (*TINY, 'recipe.warmup=1'))
    (r,), = run_all(e, 1, tmp_path/'runs', Runtime(tensorboard=tmp_path/'board'))
    assert ([p.name for p in (tmp_path/'board').iterdir()] == [r.id] and
            r.config['recipe']['warmup'] == 1)


@pytest.mark.parametrize('option, value, words',
                         (('--seeds', 0, '--seeds is 0'), ('--goal', 100, '--goal is 100'),
                          ('--json', '.', 'this is a folder'), ('--tier', 'big', 'unknown tier'),
                          ('--processes', 2, 'in one process')))
def test_a_mistake_is_one_line(refused, tmp_path, monkeypatch, option, value, words):
    monkeypatch.chdir(tmp_path)
    assert words in refused(*ASK, option, value) and not (tmp_path/'runs').exists()
