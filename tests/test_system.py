"""What surrounds a run costs no run.
Git, a user's name, a terminal's letters, what another job left behind, the home, the clock."""
import json, os, shutil, subprocess, sys, time
from pathlib import Path

import pytest

from conftest import NAME, TINY
from snn_repro.analysis.exhibits import asked
from snn_repro.core import files, system
from snn_repro.core.files import LOCK, SEAL, Held, locked
from snn_repro.core.spec import UserError
from snn_repro.core.system import ELSEWHERE, PATIENCE, PLACE, answer, cache_folder, commit_of, place
from snn_repro.experiments.tiers import find_tier
from snn_repro.training import fit as training, slurm

root = Path(__file__).parents[1]
TEAM = (*PLACE, 'MASTER_ADDR')


def command(*args, before=(), **env):
    "`snn-repro *args` as a process of its own; an `env` of None is left out."
    env = {k: v for k, v in (os.environ | env).items() if v is not None}
    return subprocess.run([*before, sys.executable, '-m', 'snn_repro', *map(str, args)], env=env,
                          capture_output=True, text=True, errors='replace', timeout=300)


def program(folder: Path, name: str, script: str) -> str:
    "A PATH on which `name` is that script."
    (folder/name).write_text(f'#!/bin/sh\n{script}\n')
    (folder/name).chmod(0o755)
    return f'{folder}:{os.environ["PATH"]}'


def environment(monkeypatch, **values):
    for k, v in values.items():
        if v is None: monkeypatch.delenv(k, raising=False)
        else: monkeypatch.setenv(k, v)


# git

@pytest.fixture
def checkout(tmp_path, monkeypatch):
    "`(git, file)`: a repository with one commit, and a file that it tracks."
    if not shutil.which('git'): pytest.skip('there is no git here')
    for k in ELSEWHERE: monkeypatch.delenv(k, raising=False)
    monkeypatch.setenv('GIT_CONFIG_GLOBAL', os.devnull)
    def git(*words):
        asked = ['git', '-C', tmp_path, '-c', 'user.name=a', '-c', 'user.email=a@b', *words]
        return subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
    file = tmp_path/'package'/'__init__.py'
    file.parent.mkdir()
    file.write_text('')
    git('init', '-q')
    git('add', '.')
    git('commit', '-qm', 'one')
    return git, file


def test_a_commit_and_whether_it_was_changed(checkout):
    git, file = checkout
    assert commit_of(file) == (git('rev-parse', '--short=12', 'HEAD'), False)
    file.write_text('x = 1')
    assert commit_of(file) == (git('rev-parse', '--short=12', 'HEAD'), True)


def test_the_commit_of_a_repository_that_does_not_track_the_file_is_not_its_own(checkout):
    git, file = checkout
    libs = file.parents[1]/'libs'/'snn_repro'
    libs.mkdir(parents=True)
    (file.parents[1]/'.gitignore').write_text('libs\n')
    (libs/'__init__.py').write_text('')
    assert commit_of(libs/'__init__.py') == (None, None)
    (file.parents[1]/'.gitignore').unlink()
    assert commit_of(libs/'__init__.py') == (None, None), 'untracked'


def test_where_git_distrusts_the_owner_both_are_unknown(checkout, monkeypatch):
    monkeypatch.setenv('GIT_TEST_ASSUME_DIFFERENT_OWNER', '1')
    assert commit_of(checkout[1]) == (None, None)


def test_a_git_folder_left_in_the_environment_is_not_asked(checkout, monkeypatch, tmp_path_factory):
    git, file = checkout
    other = tmp_path_factory.mktemp('other')
    subprocess.run(['git', 'init', '-q', other], check=True)
    here = commit_of(file)
    monkeypatch.setenv('GIT_DIR', str(other/'.git'))
    assert commit_of(file) == here != (None, None)


@pytest.mark.parametrize('script', ('exit 1', 'kill -9 $$', 'exit 127'))
def test_a_git_that_fails_knows_nothing(checkout, tmp_path, monkeypatch, script):
    monkeypatch.setenv('PATH', program(tmp_path, 'git', script))
    assert commit_of(checkout[1]) == (None, None)


def test_no_git(checkout, tmp_path, monkeypatch):
    monkeypatch.setenv('PATH', str(tmp_path/'nothing'))
    assert commit_of(checkout[1]) == (None, None)


@pytest.mark.slow
def test_a_git_that_hangs_is_left_and_what_it_started_ends(checkout, tmp_path, monkeypatch):
    hangs = f'sleep 600 & echo $! > {tmp_path}/child; wait'
    monkeypatch.setenv('PATH', program(tmp_path, 'git', hangs))
    start = time.monotonic()
    assert commit_of(checkout[1]) == (None, None)
    assert time.monotonic() - start < 4*PATIENCE
    child = Path('/proc')/(tmp_path/'child').read_text().strip()
    for _ in range(100):
        if not child.exists() or (child/'stat').read_text().split()[2] == 'Z': return
        time.sleep(.05)
    raise AssertionError('what git started goes on')


def test_an_answer_is_text_whatever_the_bytes(tmp_path):
    assert answer(['sh', '-c', r"printf '\377 a\n'"]) == '\ufffd a'
    held = answer(['sh', '-c', 'sleep 600 & exit 0'], patience=.3)
    assert held is None, 'what it left running holds its output open'
    assert answer([str(tmp_path)]) is None and answer(['no-such-program']) is None


def test_the_surroundings_are_asked_before_the_first_step(tmp_path, monkeypatch):
    def broken(device): raise UserError('asked')
    def stepped(*_): raise AssertionError('a step was made before')
    monkeypatch.setattr(training, 'environment_info', broken)
    monkeypatch.setattr(training, 'train_epoch', stepped)
    e = asked(NAME, find_tier('mini'), changes=('recipe.epochs=1',))[1]
    with pytest.raises(UserError, match='asked'): training.fit(e, tmp_path)


# A user without a name, in a home that is nowhere, with neither git nor any letter but ASCII, and
# what another job left behind

@pytest.mark.slow
def test_a_run_where_everything_is_missing(tmp_path):
    nameless = ['unshare', '-U', '--map-user=12345', '--map-group=12345']
    if subprocess.run([*nameless, 'true'], capture_output=True).returncode:
        pytest.skip('this machine makes no user namespaces')
    without = dict.fromkeys(('HOME', 'USER', 'LOGNAME', 'LNAME', 'USERNAME', 'XDG_CACHE_HOME',
                             'TORCHINDUCTOR_CACHE_DIR'))
    programs = tmp_path/'programs'
    programs.mkdir()
    for name in ('c++', 'g++', 'gcc', 'cc', 'ld', 'as'):
        if shutil.which(name): (programs/name).symlink_to(shutil.which(name))
    leftover = {'RANK': '3', 'WORLD_SIZE': '2', 'PYTHONIOENCODING': 'ascii',
                'SLURM_RESTART_COUNT': 'abc', 'SLURM_JOB_ID': '7', 'COLUMNS': '1'}
    nameless[0] = shutil.which('unshare')
    done = command('run', NAME, *TINY, '--out', tmp_path/'runs', before=nameless,
                   PATH=str(programs), **without, **leftover)
    assert done.returncode == 0 and 'Traceback' not in done.stderr, done.stderr
    folder, = (p.parent for p in (tmp_path/'runs').glob(f'*/{SEAL}'))
    env = json.loads((folder/'env.json').read_text())
    assert (env['commit'], env['dirty'], env['processes']) == (None, None, 1)


def test_a_user_without_a_name_gets_a_number(monkeypatch):
    def nobody(): raise KeyError('getpwuid(): uid not found: 12345')
    monkeypatch.setattr(system.getpass, 'getuser', nobody)
    monkeypatch.delenv('USER', raising=False)
    system.name_user()
    assert os.environ['USER'] == str(os.getuid())


def test_a_home_that_is_nowhere(monkeypatch):
    def nowhere(): raise RuntimeError('Could not determine home directory.')
    monkeypatch.delenv('XDG_CACHE_HOME', raising=False)
    monkeypatch.setattr(Path, 'home', nowhere)
    assert cache_folder().is_dir() and cache_folder() == cache_folder()


# Letters

@pytest.mark.slow
@pytest.mark.parametrize('encoding', ('ascii', 'latin-1'))
def test_a_report_is_written_whatever_letters_the_terminal_has(tmp_path, encoding):
    done = command('report', '--runs', root/'results/mini', '--only', 'tks-table3', '--tables',
                   '--out', tmp_path, PYTHONIOENCODING=encoding)
    assert done.returncode == 0 and (tmp_path/'index.html').exists(), done.stderr
    assert '?' in done.stdout and 'Report:' in done.stdout


def test_a_setting_is_shown_in_ascii():
    done = command('show', NAME, '--tier', 'paper', PYTHONIOENCODING='ascii')
    assert done.returncode == 0, done.stderr
    assert '?' in done.stdout


def test_the_page_is_there_before_the_terminal_is_gone(tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    subprocess.run([sys.executable, '-m', 'snn_repro', 'report', '--runs', root/'results/mini',
                    '--only', 'tks-table3', '--out', tmp_path],
                   stdout=writer, stderr=subprocess.DEVNULL)
    os.close(writer)
    assert (tmp_path/'index.html').exists()


# What another job left behind

@pytest.mark.parametrize('env', (
    {'RANK': '3'}, {'WORLD_SIZE': '2'}, {'RANK': '3', 'WORLD_SIZE': '4'}, {'WORLD_SIZE': ''},
    {'WORLD_SIZE': 'abc', 'RANK': 'abc'},
    dict(RANK='3', LOCAL_RANK='3', WORLD_SIZE='4', MASTER_ADDR='127.0.0.1', MASTER_PORT='1')),
    ids=str)
def test_whoever_has_no_team_is_told(tmp_path, env):
    done = command('verify', tmp_path/'nowhere', **dict.fromkeys(TEAM) | env)
    assert done.returncode == 1 and done.stderr.count('\n') == 1
    assert 'there is no such folder' in done.stderr


@pytest.mark.parametrize('env, found', [
    ({}, (0, 1)), ({'RANK': '3'}, (0, 1)), ({'WORLD_SIZE': '²'}, (0, 1)),
    ({'RANK': '4', 'LOCAL_RANK': '0', 'WORLD_SIZE': '4'}, (0, 1)),
    ({'RANK': '1', 'LOCAL_RANK': '1', 'WORLD_SIZE': '2', 'MASTER_PORT': ''}, (0, 1)),
    ({'RANK': '1', 'LOCAL_RANK': '1', 'WORLD_SIZE': '9'*5000}, (0, 1)),
    ({'RANK': '5', 'LOCAL_RANK': '1', 'WORLD_SIZE': '8'}, (5, 8)),
    ({'RANK': '0', 'LOCAL_RANK': '0', 'WORLD_SIZE': '1'}, (0, 1))], ids=str)
def test_a_place_in_a_team(monkeypatch, env, found):
    team = {'MASTER_ADDR': 'a', 'MASTER_PORT': '29500'}
    environment(monkeypatch, **dict.fromkeys(TEAM) | team | env)
    assert place() == found


@pytest.mark.parametrize('script, found', [
    ('echo 12_0 RUNNING; echo 12_1 PENDING', {'12_0': 'RUNNING', '12_1': 'PENDING'}),
    ('true', {}), ('exit 1', None), ('echo slurm is away today', None)])
def test_what_the_queue_says(tmp_path, monkeypatch, script, found):
    queue = f'test "$3" = {os.getuid()} || exit 2\n{script}'
    monkeypatch.setenv('PATH', program(tmp_path, 'squeue', queue))
    assert slurm.queued('a') == found
    monkeypatch.setenv('PATH', str(tmp_path/'nothing'))
    assert slurm.queued('a') is None


# The clock

def test_a_clock_that_jumps_takes_no_run_from_its_process(tmp_path, monkeypatch):
    monkeypatch.setattr(files, 'BEAT', .2)
    now = time.time
    for hours in (1, -1):
        with locked(tmp_path) as still:
            monkeypatch.setattr(time, 'time', lambda: now() + 3600*hours)
            with pytest.raises(Held):
                with locked(tmp_path): pass
            still()
            monkeypatch.setattr(time, 'time', now)


@pytest.mark.parametrize('hours', (-1, 1))
def test_a_lock_that_stays_silent_is_taken_over_whatever_time_it_names(
        tmp_path, monkeypatch, hours):
    monkeypatch.setattr(files, 'BEAT', .2)
    (tmp_path/LOCK).write_text(json.dumps({'host': 'elsewhere', 'pid': 1}))
    os.utime(tmp_path/LOCK, (time.time() + 3600*hours,)*2)
    with locked(tmp_path): assert json.loads((tmp_path/LOCK).read_text())['pid'] == os.getpid()
