"""Who only reads records never waits for torch: the verbs that read do not import it, and what they
read instead is what chapter 7.9 declares."""
import json, shutil, subprocess, sys
from pathlib import Path

import pytest

import packed
from conftest import NAME
from snn_repro.analysis import catalogue, exhibits
from snn_repro.analysis.catalogue import Run, contents, fill, find, listed, plan
from snn_repro.core.spec import UserError
from snn_repro.experiments.tiers import TIERS, find_tier
from snn_repro.records.runs import Runs

root = Path(__file__).parents[1]
results = root/'results/mini'
PROBE = '''
import sys
from snn_repro.cli.main import main
try: code = main(sys.argv[1:])
except SystemExit as e: code = e.code
print('imported:', *{m.partition('.')[0] for m in sys.modules})
sys.exit(code)
'''


def imported(*args) -> set:
    "The packages in a fresh process once it has done what `snn-repro *args` does."
    done = subprocess.run([sys.executable, '-c', PROBE, *map(str, args)], capture_output=True,
                          text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split()[1:])


TORCH, DRAWING, NUMBERS = ({'torch', 'spikingjelly'}, {'matplotlib', 'PIL', 'sklearn'},
                           {'numpy', 'pandas', 'scipy'})


@pytest.mark.slow
@pytest.mark.parametrize('args, without', [
    (['--help'], TORCH | DRAWING | NUMBERS),
    (['list'], TORCH | DRAWING),
    (['list', 'tks-table3-cifar10'], TORCH | DRAWING),
    (['report', '--runs', results, '--only', 'tks-table1', '--out', 'OUT'], TORCH | DRAWING),
    (['report', '--runs', results, '--only', 'tks-table3', '--out', 'OUT'],   # claims are drawn
     TORCH | {'sklearn'}),
    (['report', '--runs', results, '--only', 'tks-fig3a', 'tks-fig-risk-coverage', '--out', 'OUT'],
     TORCH | {'sklearn'}),
    (['report', '--runs', results, '--only', 'tks-fig-categories', 'tks-fig5',
      '--out', 'OUT'], TORCH),
    (['verify', results], TORCH | DRAWING),
    (['status', 'OUT'], TORCH | DRAWING | NUMBERS),
], ids=lambda v: ' '.join(map(str, v[:1] + v[3:5])) if isinstance(v, list) else '')
def test_a_verb_that_reads_does_without(args, without, tmp_path):
    (tmp_path/'plan.jsonl').write_text(json.dumps({'id': 'a-run-s0-0', 'teacher': None,
                                                   'experiment': {'recipe': {'epochs': 3}}}))
    assert not imported(*(tmp_path if a == 'OUT' else a for a in args)) & without


def test_compare_does_without(tiny_run):
    assert not imported('compare', tiny_run[1], tiny_run[1]) & (TORCH | DRAWING)


def test_a_finished_run_is_told_as_before_and_without_torch(cli, tmp_path):
    args = ['run', NAME, '--seed', '1', '--out', tmp_path/'runs']
    first = cli(*args)[1]
    done = subprocess.run([sys.executable, '-c', PROBE, *map(str, args)], capture_output=True,
                          text=True, timeout=300)
    *said, packages = done.stdout.splitlines()
    assert said == first.replace('Run: ', 'Run: already there, from ').splitlines(), done.stderr
    assert not set(packages.split()) & (TORCH | DRAWING)
    assert TORCH <= imported(*args, '--set', 'T=4')


def test_the_probe_sees_torch(): assert TORCH <= imported('show', 'tks-table3-cifar10-resnet19-tks')


def test_the_file_is_what_the_exhibits_declare(tmp_path):
    exhibits.write_catalogue(tmp_path/'exhibits.json')
    written = root/'snn_repro/assets/exhibits.json'
    assert written.read_bytes() == (tmp_path/'exhibits.json').read_bytes(), (
        'assets/exhibits.json is old: `make exhibits`')


@pytest.mark.parametrize('name', TIERS)
def test_both_lists_plan_the_same_runs_in_the_same_order(name):
    real, told = (plan(x, find_tier(name)) for x in (exhibits.find_exhibits(), catalogue.find()))
    of = lambda runs, epochs: [(e.id, e.teacher and e.teacher.id, e.seed, epochs(e)) for e in runs]
    assert of(real, lambda e: e.recipe.epochs) == of(told, lambda e: e.epochs)


def test_both_lists_are_filled_and_named_alike():
    runs, tier = Runs(results), find_tier('mini')
    for real, told in zip(exhibits.find_exhibits(), find(), strict=True):
        ids = [[(r.labels, r.paper, r.note, [f.id for f in found])
                for r, found in fill(x, tier, runs)] for x in (real, told)]
        assert ids[0] == ids[1] and list(exhibits.names(real)) == list(catalogue.named(told))


def test_every_committed_record_has_the_key_of_its_setting():
    for folder in (results, results.parent/'full'):
        for r in Runs(folder):
            assert ((told := Run.from_dict(r.config)).key == r.id[-10:] and
                    r.id.endswith(f'-s{told.seed}-{told.key}'))


@pytest.mark.parametrize('change',
                         [{'T': 3}, {'seed': 1}, {'recipe': {'type': 'Recipe', 'epochs': 12}},
                          {'T': True}, {'more': 1}])
def test_a_record_of_another_setting_is_refused(change, refused, tmp_path):
    shutil.copytree(results, tmp_path, dirs_exist_ok=True)
    lines = packed.lines(tmp_path)
    asked = {r.id for r in plan(find(['tks-table3']), find_tier('mini'))}
    line = next(l for l in lines if l['id'] in asked and l['config']['T'] == 4 and
                l['config']['seed'] == 0)
    line['config'] |= change
    packed.write_lines(tmp_path, lines)
    assert 'is the run of another setting than its name says' in refused(
        'report', '--runs', tmp_path, '--only', 'tks-table3', '--out', tmp_path/'out')


def test_a_later_field_counts_only_away_from_its_default():
    config = next(iter(Runs(results))).config
    recipe = {k: v for k, v in config['recipe'].items() if k not in contents()['later']['Recipe']}
    keys = [catalogue.key_of(config | {'recipe': recipe | more})
            for more in ({}, {'micro_batch': None}, {'micro_batch': None, 'precision': 'float32'},
                         {'precision': 'bf16'})]
    assert keys[0] == keys[1] == keys[2] != keys[3]


def test_a_row_that_the_file_lacks_is_named():
    x = exhibits.find_exhibits(['tks-table4'])[0]
    with pytest.raises(UserError, match=r"'tks-table4-mars-sew-resnet-18-baseline' is not in "
                                        r"assets/exhibits.json \(.*make exhibits"):
        listed([x._replace(rows=(x.rows[0]._replace(
            labels=x.rows[0].labels | {'dataset': 'Mars'}), ))])
