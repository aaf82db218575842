"""What is told of runs: how far they are, what differs between two, how long they will take; the
first two without torch."""
import json, os, subprocess, sys, time

import pytest

from conftest import NAME, TINY
from snn_repro.cli.plan import share
from snn_repro.cli.status import status
from snn_repro.core.files import ERROR, LOCK, SEAL, write_json
from snn_repro.core.text import plural, span, text_table
from snn_repro.records.queue import PLAN
from snn_repro.records.runs import open_run


def folder_of_runs(out, plan=True):
    """Two done (10 epochs in 100 s), one running (4 of 10 after 48 s), one failed, one begun and
    left, one left: all of one slug but the second."""
    epochs = {'digits-net-t4-tks-s0-0123456789': 10, 'digits-net-t4-tet-s0-0123456789': 20,
              'digits-net-t4-tks-s1-0123456789': 10,
              'digits-net-t4-tks-s2-0123456789': 10, 'digits-net-t4-tks-s3-0123456789': 10,
              'digits-net-t4-tks-s4-0123456789': 10}
    for i in epochs: (out/i).mkdir(parents=True)
    done, other, running, failed, begun, _ = map(out.joinpath, epochs)
    if not plan: out.joinpath(list(epochs)[-1]).rmdir()
    for f, seconds in ((done, 100.), (other, 400.)):
        write_json(f/SEAL, {})
        write_json(f/'env.json', {'seconds': seconds})
        write_json(f/'config.json', {'recipe': {'epochs': epochs[f.name]}})
    (running/LOCK).write_text(json.dumps({'host': os.uname().nodename, 'pid': os.getpid(),
                                          'job': 17}))
    os.utime(running/LOCK, (time.time() - 30,)*2)
    for f, epoch in ((running, 4), (begun, 5)):
        (f/'checkpoint').mkdir()
        write_json(f/'checkpoint/a.json', {'count': 1, 'state': {'epoch': 1, 'seconds': 12.}})
        write_json(f/'checkpoint/b.json', {'count': 2, 'state': {'epoch': epoch, 'seconds': 48.}})
    write_json(failed/ERROR, {'reason': 'the loss is nan in epoch 3, step 4, training images [1, '
                                        '2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12] (lower recipe.lr)'})
    lines = [{'id': i, 'teacher': None, 'experiment': {'recipe': {'epochs': n}}}
             for i, n in epochs.items()]
    if plan: (out/PLAN).write_text(''.join(json.dumps(l) + '\n' for l in lines))
    return out


@pytest.mark.parametrize('width', [60, 120])
def test_status_of_a_plan(tmp_path, monkeypatch, width):
    monkeypatch.chdir(folder_of_runs(tmp_path/'runs').parent)
    text = status('runs', width)
    assert all(len(l) <= width for l in text.splitlines()), text
    words = ' '.join(text.split())
    assert 'runs: 6 runs: 2 done, 1 running, 1 failed, 2 left (1 of them begun).' in words
    assert 'Time left: about 3.5 min, 1 at a time.' in words        # (6 + 5 + 10 epochs) of 10 s
    assert ('4 of 10' in words and
            f'{os.getpid()} on {os.uname().nodename} (SLURM job 17)' in words and
            ('30 s ago' in words or '31 s ago' in words))
    assert ('digits-net-t4-tks-s2-0123456789 the loss is nan in epoch 3' in words and
            'tries them again' in words)


def test_status_without_a_plan_and_when_all_is_done(tmp_path):
    text = ' '.join(status(folder_of_runs(tmp_path, plan=False)).split())
    assert ('5 runs: 2 done, 1 running, 1 failed, 1 left (1 of them begun).' in text and
            '4 of ?' in text and 'not known yet' in text)
    for f in tmp_path.iterdir(): write_json(f/SEAL, {})
    assert status(tmp_path, 200) == f'{tmp_path}: 5 runs: 5 done.'


def test_status_of_damaged_files_is_still_a_page(tmp_path):
    folder_of_runs(tmp_path)
    for p in [*tmp_path.glob('*/*.json'), *tmp_path.glob('*/checkpoint/*.json'),
              *tmp_path.glob('*/lock')]:
        for junk in ('[1]', '{"state": [], "count": "x", "seconds": "y", "recipe": 3, '
                            '"reason": "\\u001b[2J"}',
                     '{', '{"state": {"epoch": -1, "seconds": true}, "count": NaN}'):
            p.write_text(junk)
            assert '6 runs' in status(tmp_path) and '\x1b' not in status(tmp_path)
    for junk in ('{', '{"id": "../x", "teacher": null, "experiment": {}}'):
        (tmp_path/PLAN).write_text(junk)
        assert 'so these are the runs that have a folder' in status(tmp_path)


def test_status_of_nothing_is_one_line(refused, tmp_path):
    assert 'no such folder' in refused('status', tmp_path/'x')
    assert 'there are no runs' in refused('status', tmp_path)


@pytest.fixture(scope='module')
def three(tmp_path_factory):
    "Three tiny runs: one, the same again elsewhere, and one with another peak."
    from snn_repro.cli.main import main
    home, changed = tmp_path_factory.mktemp('three'), ['--set', 'objective.0.peak=0.1', '--set',
                                                       'recipe.lr=0.003']
    for name, more in (('one', []), ('again', []), ('other', changed)):
        assert main(['run', NAME, *TINY, '--set', 'recipe.epochs=4', '--set',
                     'data.train_per_class=20', *more, '--out', str(home/name)]) == 0
    return [next((home/n).glob('*/done.json')).parent for n in ('one', 'again', 'other')]


@pytest.mark.parametrize('width', [60, 120])
def test_compare_tells_setting_result_and_answers(cli, three, width, monkeypatch):
    monkeypatch.setenv('COLUMNS', str(width))
    one, _, other = three
    code, text, _ = cli('compare', one, other)
    assert code == 0 and 'Environment: the same.' in text
    lines = [l.split() for l in text.splitlines()]
    assert ['objective.0.peak', '0.7', '0.1'] in lines and ['recipe.lr', '0.01', '0.003'] in lines
    assert (sum(l[:1] == ['recipe.lr'] or l[:1] == ['objective.0.peak'] for l in lines) == 2 and
            'data.test' not in text)
    a, b = map(open_run, (one, other))
    assert any(l[:2] == ['top-1', '%'] and
               l[2:] == [f'{100*a.metrics["top1"]:.2f}', f'{100*b.metrics["top1"]:.2f}',
                         f'{100*(a.metrics["top1"] - b.metrics["top1"]):+.2f}'] for l in lines)
    assert any(l[:2] == ['train', 'accuracy'] for l in lines)
    (x, y), label = (r.outcomes['prefix'][:, -1] for r in (a, b)), a.outcomes['label']
    alone = [int(((p == label) & (q != label)).sum()) for p, q in ((x, y), (y, x))]
    both, words = int(((x == label) & (y == label)).sum()), ' '.join(text.split())
    assert (x != y).any() and f'they differ on {(x != y).sum()} of 50 test images' in words
    assert (f'both on {both}, A alone on {alone[0]}, B alone on {alone[1]}, '
            f'neither on {50 - both - sum(alone)}.' in words)
    assert 'weights.safetensors, outputs.safetensors, history.csv differ.' in words
    assert all(len(l) <= width for l in text.splitlines() if str(one.parent.parent) not in l)


def test_compare_says_when_bytes_are_the_same(cli, three):
    words = ' '.join(cli('compare', *three[:2])[1].split())
    assert 'Setting: the same.' in words and 'differ on 0 of 50' in words
    assert 'weights.safetensors, outputs.safetensors, history.csv have the same bytes.' in words


def test_compare_does_not_set_different_images_side_by_side(cli, three, tmp_path):
    assert cli('run', NAME, *TINY, '--seed', '1', '--out', tmp_path)[0] == 0
    text = cli('compare', three[0], next(tmp_path.glob('*/done.json')).parent)[1]
    assert 'not compared' in text and ['seed', '0', '1'] in [l.split() for l in text.splitlines()]


def test_compare_refuses_what_is_not_a_run(refused, three, tmp_path):
    assert 'no run has such a name' in refused('compare', three[0], tmp_path/'x')
    assert 'not a finished run' in refused('compare', three[0], tmp_path)


def test_neither_imports_torch(three, tmp_path):
    folder_of_runs(tmp_path)
    code = (f'import sys\nfrom snn_repro.cli.main import main\n'
            f'assert main(["status", {str(tmp_path)!r}]) == '
            f'main(["compare", *{list(map(str, three[:2]))}]) == 0\n'
            f'assert "torch" not in sys.modules')
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_plan_prints_hours_and_leaves_out_what_is_done(cli, tmp_path, monkeypatch):
    monkeypatch.setenv('COLUMNS', '140')   # a row a line, however slow the steps
    changes = [x for x in TINY if x != '--set'][1:]
    args = ['plan', 'tks-fig-categories', 'tks-fig5', '--steps', '2', '--devices', '4', '--out',
            tmp_path, *(w for c in changes for w in ('--set', c))]
    code, text, err = cli(*args)
    assert 'in all epochs' not in ' '.join(err)
    lines = [l.split() for l in text.splitlines()]
    rows = [l for l in lines if l and l[0].startswith('tks-fig')]
    assert code == 0 and [r[0] for r in rows] == [
        'tks-fig-categories-dvs-cifar10-vgg-snn-baseline-10',
        'tks-fig-categories-dvs-cifar10-vgg-snn-tks-10',
        'tks-fig5-cifar100-resnet19-baseline-4', 'tks-fig5-cifar100-resnet19-tks-4'], text
    for name, runs, epochs, steps, step, hours in rows:
        assert ((runs, epochs, steps) == ('8', '12', '12') and float(step) > 0 and
                float(hours) >= .9*12*float(step)/3600)
    each = [float(r[-1]) for r in rows]
    words = ' '.join(text.split())
    total = float(words.partition('All 32 runs: ')[2].split()[0])
    assert (abs(total/(8*sum(each)) - 1) < .1 and 'To do: 32 of them (0 are done' in words and
            '4 at a time' in words)


def test_plan_subtracts_done_runs(cli, tmp_path):
    from snn_repro.analysis.catalogue import plan
    from snn_repro.analysis.exhibits import find_exhibits
    from snn_repro.experiments.tiers import TIERS
    for e in plan(find_exhibits(['tks-fig-categories']), TIERS['mini'])[:15]:
        (tmp_path/e.id).mkdir()
        write_json(tmp_path/e.id/SEAL, {})
    words = ' '.join(
        cli('plan', 'tks-fig-categories', '--steps', '2', '--out', tmp_path)[1].split())
    total, left = (float(words.partition(s)[2].split()[0])
                   for s in ('All 16 runs: ', '(15 are done in ' + str(tmp_path) + '), '))
    assert 'To do: 1 of them' in words and 0 < left < total/8


@pytest.mark.parametrize('args, said', [
    (['tks-table9'], 'unknown table or figure'), (['tks-fig5', '--steps', '0'], 'choose 1 or more'),
    (['tks-fig5', '--devices', '0'], 'choose 1 or more'),
    (['tks-fig5', '--set', 'recipe.epoch=1'], "unknown key 'epoch'"),
    (['tks-fig5', '--device', 'abacus'], "device 'abacus'"), ([], '--help')])
def test_a_wrong_plan_is_one_line_before_anything_is_timed(refused, monkeypatch, tmp_path,
                                                           args, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('snn_repro.training.environment.try_steps', None)
    assert said in refused('plan', *args)


def test_devices_share_the_longest_runs_first():
    assert (share([3, 1, 2, 2], 2) == 4 and share([5, 1, 1], 3) == 5 and share([], 2) == 0 and
            share([1, 1, 1], 1) == 3)


def test_words_and_tables():
    assert [plural(n, 'run') for n in (0, 1, 2)] == ['0 runs', '1 run', '2 runs']
    assert [span(s) for s in (0, 59, 300, 9000, 10**7)] == ['0 s', '59 s', '5.0 min', '2.5 hours',
                                                            '116 days']
    wide, narrow = (text_table(('run', 'n'), [('a-long-name', 12), ('b', 3)], w) for w in (20, 12))
    assert wide.splitlines() == ['run           n', '-----------  --', 'a-long-name  12',
                                 'b             3']
    assert narrow.splitlines() == ['run', '---', 'a-long-name', '  n 12', 'b', '  n 3']
