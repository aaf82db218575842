"""The verbs do what they say; what is wrong is said in one line, with the remedy, and nothing is
lost."""
import json, os, signal, subprocess, sys, time
from pathlib import Path

import pytest

from conftest import NAME, TINY
from snn_repro.analysis.exhibits import EXHIBITS, names


def test_list_names_every_exhibit_and_experiment(cli):
    code, out, _ = cli('list')
    assert code == 0 and all(x.id in out for x in EXHIBITS)
    code, out, _ = cli('list', 'tks-table3')
    said = [l.split()[0] for l in out.splitlines() if l.startswith('tks-table3-')]
    assert said == list(names(next(x for x in EXHIBITS if x.id == 'tks-table3')))


def test_show_prints_values_and_takes_changes(cli):
    assert cli('show', NAME)[0] == 0
    out = cli('show', NAME, '--set', 'objective.0.peak=0.25', '--variant', 'paper',
              '--seed', '3')[1]
    assert '-s3-' in out and any(l.split()[:2] == ['objective.0.peak', '0.25']
                                 for l in out.splitlines())
    assert any(l.split()[:2] == ['objective.0.combine', 'mean'] for l in out.splitlines())


def test_show_names_sources_and_differences(cli):
    out = cli('show', NAME, '--tier', 'paper')[1]
    assert 'RCNN.py' in out and 'TKS, section 4' in out and 'as asked for' not in out
    assert 'as asked for' in cli('show', NAME, '--tier', 'paper', '--set', 'recipe.epochs=7')[1]
    lines = cli('show', NAME, '--tier', 'paper', '--diff', 'paper')[1].splitlines()
    assert ([l.split()[0] for l in lines] ==
            [f'objective.0.{k}' for k in ('combine', 'detach_teacher', 'ramp', 'squared')] and
            'sum -> mean' in lines[0])


def test_data_verbs(cli, real):
    code, out, _ = cli('data', 'list', '--root', real('nmnist'))
    assert code == 0 and 'CC BY-SA 4.0' in out and str(real('nmnist'))[:20] in out
    code, out, _ = cli('data', 'check', 'NMNIST', '--root', real('nmnist'))
    assert code == 0 and 'all 1100 can be read' in out


def test_run_leaves_a_record_that_can_be_started_again(cli, tiny_run):
    runs, folder = tiny_run
    before = (folder/'done.json').stat().st_mtime_ns
    assert cli('run', folder/'config.json', '--out', runs)[0] == 0
    assert (folder/'done.json').stat().st_mtime_ns == before and len(list(runs.iterdir())) == 1


def test_steps_are_a_table_that_fits(cli, monkeypatch):
    monkeypatch.setenv('COLUMNS', '80')
    code, out, _ = cli('run', NAME, '--steps', '2')
    heads, rule, *rows = out.splitlines()
    assert code == 0 and heads.split() == ['step', 'ce', 'tks', 'seconds']
    assert set(rule) == {'-', ' '}
    assert [r.split()[0] for r in rows] == ['1', '2'] and all(len(r) <= len(rule) for r in rows)
    assert not any(l != l.rstrip() for l in out.splitlines())


@pytest.fixture(scope='module')
def reproduced(tmp_path_factory):
    "One small figure, reproduced for real by the command."
    home = tmp_path_factory.mktemp('home')
    done = subprocess.run([sys.executable, '-m', 'snn_repro', 'reproduce', '--only',
                           'tks-fig-categories'], cwd=home, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return home, done


@pytest.mark.slow
def test_reproduce_writes_a_page_and_reuses_runs(reproduced):
    home, done = reproduced
    page = home/'reports/mini/index.html'
    assert 'reports/mini/index.html' in done.stdout.splitlines()[-1] and page.exists()
    text = page.read_text()
    assert ('16 runs of 16 in both; ' in done.stdout and 'All effects at once' in done.stdout and
            len(done.stdout.splitlines()) <= 24)
    assert 0 < text.index('16 runs of 16 in both; ') < text.index('id="claims"')
    assert 0 < text.index('id="compared-1"') < text.index('At a glance')
    assert 'At a glance' in text and '<svg ' in text and 'src="http' not in text
    start = time.perf_counter()
    again = subprocess.run([sys.executable, '-m', 'snn_repro', 'reproduce', '--only',
                            'tks-fig-categories'], cwd=home, capture_output=True, text=True)
    assert again.returncode == 0 and 'runs to do' not in again.stdout
    assert time.perf_counter() - start < 60


@pytest.mark.slow
def test_ctrl_c_keeps_finished_runs(reproduced, tmp_path):
    home, _ = reproduced
    process = subprocess.Popen([sys.executable, '-m', 'snn_repro', 'reproduce', '--only',
                                'tks-fig-categories', '--out', tmp_path], cwd=home,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               start_new_session=True)
    deadline = time.time() + 120
    while not list(tmp_path.glob('*/done.json')) and time.time() < deadline: time.sleep(.05)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and 'goes on from here' in err and 'Traceback' not in err
    finished = {p.parent.name for p in tmp_path.glob('*/done.json')}
    assert finished
    for name in finished:
        assert ((tmp_path/name/'weights.safetensors').read_bytes() ==
                (home/'runs/mini'/name/'weights.safetensors').read_bytes())


def test_reproduce_names_what_failed(cli, monkeypatch, tmp_path):
    from snn_repro.training import launch
    monkeypatch.setattr(launch, 'launch',
                        lambda *_: [launch.Failure('a-run', 'the loss is nan'),
                                    launch.Failure('b-run', 'its process was killed')])
    code, _, err = cli('reproduce', '--only', 'tks-fig-categories', '--out', tmp_path)
    assert (code == 1 and err[:2] ==
            ['failed: a-run: the loss is nan', 'failed: b-run: its process was killed'] and
            '2 of the runs failed' in err[2])


def test_of_several_processes_one_tells_what_is_wrong(cli, teamed):
    for rank, lines in ((0, 1), (1, 0)):
        teamed(rank)
        code, _, err = cli('run', 'nothing')
        assert code == 1 and len(err) == lines and len(cli('show', 'nothing')[2]) == 1


@pytest.mark.parametrize('args, said', [
    (['show', 'tks-table3-cifar10-resnet-tks'], f'did you mean {NAME}?'),
    (['list', 'tks-table33'], 'did you mean tks-table3?'),
    (['reproduce', '--only', 'tks-table9'], 'unknown table or figure'),
    (['reproduce', '--tier', 'huge'],
     "unknown tier 'huge' (choose from mini, long, small, short, paper)"),
    (['reproduce', '--workers', '0'], 'choose 1 or more'),
    (['reproduce', '--fast'], '--help'),
    (['produce'], 'invalid choice'),
    (['show', NAME, '--variant', 'text'], 'unknown variant'),
    (['show', NAME, '--set', 'recipe.epoch=3'], "unknown key 'epoch'"),
    (['show', NAME, '--set', 'recipe.epochs=many'], 'expected int'),
    (['show', NAME, '--set', 'recipe.epochs'], 'KEY=VALUE'),
    (['show', NAME, '--set', 'objective.3.peak=1'], "no entry '3'"),
    (['show', NAME, '--set', 'T=0'], 'at least one step'),
    (['show', NAME, '--seed', '-1'], 'seed is -1'),
    (['report', '--runs', 'nowhere'], 'no such folder'),
    (['show', 'nowhere.json'], 'no such file'),
    (['run', NAME, '--tier', 'paper'], 'snn-repro data prepare CIFAR10'),
    (['reproduce', '--tier', 'paper'], 'snn-repro data prepare CIFAR10'),
    (['run', 'tks-table3-dvs-cifar10-vgg-snn-tks', '--tier', 'paper', '--root', 'here'], 'here'),
    (['run', 'tks-table4-cub-200-2011-sew-resnet-18-tks', '--tier', 'paper'],
     'CUB200 is not there'),
    (['run', NAME, '--device', 'abacus'], "device 'abacus'"),
    (['run', NAME, '--threads', '0'], 'choose 1 or more'),
    (['run', NAME, '--processes', '0'], '--processes is 0 (choose 1 or more)'),
    (['reproduce', '--device', 'abacus'], "device 'abacus'"),
    (['reproduce', '--launcher', 'fast'], 'invalid choice'),
    (['work'], '--help'),
    (['run', NAME, '--steps', '0'], 'choose 1 or more'),
    (['show', 'enof-ablation-2-l_af', '--diff', 'paper'], 'changes nothing here'),
    (['data'], '--help'),
    (['data', 'fetch'], 'invalid choice'),
    (['data', 'check'], 'which one?'),
    (['data', 'check', 'MNIST'], "no data set 'MNIST'"),
    (['data', 'check', 'NMNIST'], 'NMNIST is not there'),
    (['data', 'prepare', 'ImageNet1k'], 'image-net.org'),
    (['run', NAME, '--set', 'recipe.batch=4000'], 'recipe.batch'),
    (['run', NAME, '--set', 'data.test=5000'], 'lower train_per_class or test'),
    (['run', NAME, *TINY, '--set', 'recipe.lr=1e30', '--set', 'recipe.optimizer=sgd', '--set',
      'recipe.epochs=30'], 'lower recipe.lr'),
])
def test_a_mistake_is_one_line(refused, args, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert said in refused(*args)


def test_config_file_that_is_not_ours(refused, tmp_path):
    path = tmp_path/'config.json'
    path.write_text('{"type": "Experiment"')
    assert 'not JSON' in refused('show', path)
    path.write_text('{"type": "os.system"}')
    assert "unknown type 'os.system'" in refused('show', path)
    path.write_text('[1, 2]')
    assert 'expected a setting' in refused('show', path)


@pytest.mark.parametrize('name',
                         ['config.json', 'metrics.json', 'history.csv', 'outputs.safetensors',
                          'features.safetensors', 'weights.safetensors'])
def test_a_changed_file_is_named_and_nothing_is_trained_over_it(refused, tiny_run, name):
    runs, folder = tiny_run
    (folder/name).write_bytes((folder/name).read_bytes() + b' ')
    kept = {p.name: p.read_bytes() for p in folder.iterdir()}
    line = refused('run', NAME, *TINY, '--out', runs)
    assert name in line and 'hash differs' in line and 'remove this folder' in line
    assert kept == {p.name: p.read_bytes() for p in folder.iterdir()}


def test_a_half_written_run_is_trained_again(cli, tiny_run):
    runs, folder = tiny_run
    weights = (folder/'weights.safetensors').read_bytes()
    (folder/'done.json').unlink()
    (folder/'weights.safetensors').write_bytes(weights[:100])
    assert cli('run', NAME, *TINY, '--out', runs)[0] == 0
    assert (folder/'weights.safetensors').read_bytes() == weights


def test_a_run_of_another_version_is_refused(refused, tiny_run):
    runs, folder = tiny_run
    done = json.loads((folder/'done.json').read_text())
    (folder/'done.json').write_text(json.dumps(done | {'schema': 0}))
    assert 'written in schema 0' in refused('run', NAME, *TINY, '--out', runs)
    (folder/'done.json').write_text('{}')
    assert 'seal is damaged' in refused('run', NAME, *TINY, '--out', runs)


def test_an_output_folder_that_cannot_be(refused, tmp_path):
    (tmp_path/'file').write_text('')
    assert 'choose another folder' in refused('run', NAME, *TINY, '--out', tmp_path/'file')
    assert 'choose another folder' in refused('reproduce', '--only', 'tks-fig-categories', '--out',
                                              tmp_path/'file'/'runs')


@pytest.mark.skipif(not Path('/sys/kernel').is_dir(),
                    reason='needs a folder in which nobody may write, /sys of Linux')
def test_a_forbidden_output_folder_is_named(refused):
    assert 'choose a folder you may write to' in refused('run', NAME, *TINY, '--out',
                                                         '/sys/kernel/runs')


@pytest.mark.parametrize('line, said', [
    ('run --sead 3 x', 'unknown option --sead (did you mean --seed? see `snn-repro run --help`)'),
    ('data list --nothing=3', 'unknown option --nothing (see `snn-repro data --help`)'),
    ('show a b', 'unknown argument b (see `snn-repro show --help`)'),
    ('--versoin', 'unknown option --versoin (did you mean --version? see `snn-repro --help`)')])
def test_what_a_verb_does_not_know_is_told_with_its_help(cli, line, said):
    assert cli(*line.split()) == (1, '', [f'snn-repro: {said}'])


def test_alone_it_is_help_and_it_tells_its_version(cli, capsys):
    from snn_repro import __version__
    code, out, err = cli()
    assert code == 0 and 'VERB' in out and 'try' in out and not err
    with pytest.raises(SystemExit) as stop: cli('--version')
    assert stop.value.code == 0 and capsys.readouterr().out == f'snn-repro {__version__}\n'
