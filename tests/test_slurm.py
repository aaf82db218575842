"""Runs as jobs of SLURM: what would be submitted, anywhere; and, minutes of it, a real cluster of
two nodes (tests/slurm.sh)."""
import json, os, re, shutil, signal, subprocess, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from conftest import NAME
from snn_repro.analysis.exhibits import asked
from snn_repro.core.files import ERROR, SEAL
from snn_repro.core.spec import edits
from snn_repro.experiments.scaling import SCALES, mini
from snn_repro.experiments.tiers import TIERS, Tier, find_tier
from snn_repro.training import slurm
from snn_repro.training.environment import Runtime
from snn_repro.training.fit import fit
from snn_repro.training.slurm import Cluster, job_name, queued, reproduce_on_slurm

SCRIPT = Path(__file__).with_name('slurm.sh')
HERE = {**os.environ, 'PATH': os.environ['PATH'] + ':/usr/sbin'}
TINY = ('recipe.epochs=1', 'data.train_per_class=5', 'data.test=50')
LONG = ('recipe.test_every=3', 'augment={"type": "CropFlip", "pad": 1}')
FILES = ('config.json', 'history.csv', 'outputs.safetensors', 'features.safetensors',
         'metrics.json', 'weights.safetensors')


def setting(*changes): return asked(NAME, find_tier('mini'), changes=changes)[1]
def long(n=1): return setting(*LONG, f'recipe.epochs={(40, 20)[n - 1]}')
def tiny(e): return edits(mini(e), TINY)


@pytest.fixture(autouse=True)
def tiers(monkeypatch):
    monkeypatch.setitem(TIERS, 'tiny', Tier('tiny', 1, 'seconds'))
    monkeypatch.setitem(SCALES, 'tiny', tiny)


def results(folder): return {n: (folder/n).read_bytes() for n in FILES}


# --- Anywhere

def test_a_dry_run_prints_what_would_be_submitted_and_submits_nothing(cli, tmp_path, monkeypatch):
    monkeypatch.setenv('PATH', str(tmp_path))   # no sbatch here
    ask = ('reproduce', '--tier', 'tiny', '--only', 'tks-table3', '--launcher', 'slurm',
           '--dry-run', '--out', tmp_path/'runs')
    code, out, err = cli(*ask, '--jobs', 3, '--partition', 'gpu', '--time', 90, '--sbatch',
                         'mem=16G', '--sbatch', 'exclusive')
    assert (code, err) == (0, [])
    for line in ('array=0-2%3', 'partition=gpu', 'time=90', 'mem=16G', 'exclusive', 'requeue',
                 'signal=USR2@90', 'nodes=1', 'ntasks-per-node=1'):
        assert f'#SBATCH --{line}\n' in out, line
    assert ('gpus' not in out and 'export OMP_NUM_THREADS=1' in out and
            'nothing was submitted. 3 jobs' in out and 'share 19 runs' in out)
    assert len(re.findall(r'^  \w*digits-.*-s0-', out, re.M)) == 19
    code, out, _ = cli('reproduce', '--tier', 'tiny', '--only', 'tks-table3', '--dry-run', '--out',
                       tmp_path/'runs')
    assert code == 0 and 'nothing was submitted' in out, 'it says slurm by itself'
    assert not (tmp_path/'runs').exists()


def test_devices_and_processes_become_tasks_and_gpus(cli, tmp_path):
    ask = ('reproduce', '--tier', 'tiny', '--only', 'tks-table3', '--launcher', 'slurm',
           '--dry-run', '--out', tmp_path)
    code, out, _ = cli(*ask, '--jobs', 1, '--nodes', 2, '--processes', 4, '--threads', 3,
                       '--device', 'cuda')
    assert code == 0 and '--array' not in out and '1 job of this script' in out
    for line in ('nodes=2', 'ntasks-per-node=4', 'gpus-per-node=4', 'cpus-per-task=3'):
        assert f'#SBATCH --{line}\n' in out, line
    assert re.search(r'^srun .*--cpus-per-task=3 ', out, re.M)
    assert '--array=0-18%19' in cli(*ask, '--jobs', 99)[1], 'no more jobs than runs'


def test_settings_that_cannot_be_are_refused_in_a_line(refused, tmp_path, monkeypatch):
    ask = ('reproduce', '--tier', 'tiny', '--only', 'tks-table3', '--out', tmp_path/'runs',
           '--launcher', 'slurm')
    for option, value, words in (('--time', 2, 'choose 5 minutes or more'),
                                 ('--jobs', 0, '--jobs is 0'), ('--nodes', 0, '--nodes is 0'),
                                 ('--sbatch', 'time=5', 'use --time'),
                                 ('--sbatch', 'output=x', 'sets this itself'),
                                 ('--sbatch', '=x', 'names no option')):
        assert words in refused(*ask, option, value)
    monkeypatch.setenv('PATH', str(tmp_path))
    assert 'SLURM is not installed here' in refused(*ask)
    assert not (tmp_path/'runs').exists()


def test_the_script_says_what_is_missing(tmp_path):
    done = subprocess.run(['/bin/bash', SCRIPT, 'up', tmp_path/'c'], env={'PATH': str(tmp_path)},
                          capture_output=True, text=True)
    line, = done.stderr.splitlines()
    assert (done.returncode and 'SLURM is not installed here: no' in line and 'sbatch' in line and
            not (tmp_path/'c').exists())


# --- On a cluster

def cluster_test(test):
    here = shutil.which('slurmctld', path=HERE['PATH'])
    reason = ('takes minutes: `make release-test`' if not os.environ.get('SNN_REPRO_RELEASE')
              else 'SLURM is not installed here (Debian: slurm-wlm)')
    return pytest.mark.slurm(
        pytest.mark.skipif(not (here and os.environ.get('SNN_REPRO_RELEASE')), reason=reason)(test))


def script(*a):
    return subprocess.run([SCRIPT, *map(str, a)], env=HERE, capture_output=True, text=True,
                          timeout=180)


def say(*command):
    return subprocess.run(command, env=os.environ, capture_output=True, text=True,
                          timeout=60).stdout.split()


def processes(*words):
    "The processes whose environment holds one of `words`."
    def told(p):
        try: return {w.encode() for w in words} & set((p/'environ').read_bytes().split(b'\0'))
        except OSError: return False
    return [int(p.name) for p in Path('/proc').glob('[0-9]*') if told(p)]


def kill(p):
    try: os.kill(p, signal.SIGKILL)
    except ProcessLookupError: pass


def parent(p) -> int: return int(Path(f'/proc/{p}/stat').read_text().rpartition(')')[2].split()[1])


@pytest.fixture(scope='module')
def cluster(tmp_path_factory):
    "The folder of a cluster of two nodes; when it has gone, nothing of it is left."
    folder = tmp_path_factory.mktemp('slurm')/'c'
    conf = f'SLURM_CONF={folder}/slurm.conf'
    try:
        for _ in range(2): assert (done := script('up', folder)).returncode == 0, done.stderr
        with pytest.MonkeyPatch.context() as m:
            m.setenv('SLURM_CONF', conf.partition('=')[2])
            m.setattr(slurm, 'ASK', 1)
            yield folder
    finally: done = script('down', folder)
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert not folder.exists() and str(folder) not in Path('/etc/hosts').read_text()
    assert not [p for p in processes(conf) if parent(p) != os.getpid()]


@pytest.fixture(scope='module')
def in_peace(tmp_path_factory):
    "`in_peace(n)`: what the long run gives on this machine, in n processes."
    kept = {}
    def run(n=1):
        if n not in kept:
            out = tmp_path_factory.mktemp('peace')
            fit(long(n), out, Runtime(processes=n))
            kept[n] = results(out/long(n).id)
        return kept[n]
    return run


def reached(out) -> int:
    "The steps that the youngest checkpoint has seen."
    steps = [0]
    for p in out.glob('*/checkpoint/?.json'):
        try: state = json.loads(p.read_text())['state']
        except (OSError, ValueError): continue
        steps.append(5*state['epoch'] + state['sums']['steps'])
    return max(steps)


def until(what, seconds=90):
    end = time.time() + seconds
    while not what():
        assert time.time() < end, 'waited in vain'
        time.sleep(.05)


def disturbed(out, nodes, disturb):
    "Train the long run as a job and do `disturb(job)` in its middle: its results."
    e = long(nodes)
    name = job_name([e], out)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(reproduce_on_slurm, [e], out, Runtime(checkpoint=.1),
                              Cluster(nodes=nodes, jobs=1))
        try:
            until(lambda: reached(out) >= 20 or waiting.done())
            job, = queued(name)
            disturb(job)
            until(lambda: restarts(job) == 1 and queued(name)[job] != 'COMPLETING')
            left = reached(out)
            until(lambda: reached(out) != left or waiting.done())
            on = reached(out)
            assert waiting.result(150) == []
        finally: say('scancel', '--name', name)
    assert 20 <= left <= on < 5*e.recipe.epochs, 'it did not go on where it was'
    return results(out/e.id)


def restarts(job) -> int:
    return int(re.search(r'Restarts=(\d+)', ' '.join(say('scontrol', 'show', 'job', job)))[1])


def requeue(job):
    say('scontrol', 'requeue', job)
    # as SLURM does soon, but a small run might be done by then
    for p in processes(f'SLURM_JOB_ID={job}'): kill(p)


def time_out(job): say('scancel', '--signal', 'USR2', job)


def kill_node(cluster, job, which):
    """As if the power of a node of the job had gone: its daemon, and all that runs there. SLURM
    notices and requeues the job; the node's name."""
    node = say('scontrol', 'show', 'hostnames', *say('squeue', '-hj', job, '-o', '%N'))[which]
    tasks = processes(f'SLURMD_NODENAME={node}')
    steps = {p for p in map(parent, tasks) if Path(f'/proc/{p}/comm').read_text() == 'slurmstepd\n'}
    assert tasks and steps
    for p in [int((cluster/f'{node}.pid').read_text()), *steps, *tasks]: kill(p)
    until(lambda: restarts(job) == 1)
    return node


@cluster_test
def test_a_table_is_made_by_the_queue_as_on_one_machine(cluster, cli, tmp_path, monkeypatch):
    "And the one who waits for it may leave and come back."
    ask = ('reproduce', '--tier', 'tiny', '--only', 'enof-table-cifar10')
    on_slurm = (*ask, '--out', tmp_path/'slurm', '--launcher', 'slurm', '--partition', 'debug',
                '--jobs', 2)
    with monkeypatch.context() as m:
        def leave(*_): raise KeyboardInterrupt
        m.setattr(slurm, 'watch', leave)
        code, out, err = cli(*on_slurm)
    assert (code == 130 and
            '7 runs to do, 0 done before; 2 jobs submitted, 0 in the queue before.' in out)
    name = re.search(r'scancel --name=(\S+)`', '\n'.join(err))[1]
    assert len(queued(name)) == 2
    code, out, err = cli(*on_slurm)
    assert code == 0 and 'Report: ' in out, err
    assert set(re.findall(r'(\d+) jobs submitted', out)) <= {'0'}, (
        'the jobs of the first call go on')
    assert cli(*ask, '--out', tmp_path/'local', '--workers', 2)[0] == 0
    done = sorted(p.parent.name for p in (tmp_path/'local').glob(f'*/{SEAL}'))
    assert len(done) == 7
    for run in done: assert results(tmp_path/'slurm'/run) == results(tmp_path/'local'/run), run


@cluster_test
def test_a_run_over_two_nodes_gives_the_bytes_of_two_processes(cluster, in_peace, tmp_path):
    e = long(2)
    assert reproduce_on_slurm([e], tmp_path, Runtime(), Cluster(nodes=2)) == []
    assert results(tmp_path/e.id) == in_peace(2)
    assert json.loads((tmp_path/e.id/'env.json').read_text())['processes'] == 2
    assert len(list((tmp_path/'slurm').glob('*_log.out'))) == 2, 'two tasks'


@cluster_test
@pytest.mark.parametrize('disturb, nodes', [(requeue, 1), (time_out, 1), (time_out, 2)])
def test_a_run_that_is_requeued_ends_in_the_same_bytes(cluster, in_peace, tmp_path, disturb, nodes):
    assert disturbed(tmp_path, nodes, disturb) == in_peace(nodes)


@cluster_test
def test_another_node_goes_on_with_a_run_whose_node_is_killed(cluster, in_peace, tmp_path):
    killed = []
    assert (disturbed(tmp_path, 1, lambda job: killed.append(kill_node(cluster, job, 0))) ==
            in_peace(1))
    assert script('node', cluster, killed[0]).returncode == 0
    until(lambda: say('sinfo', '-hN', '-o', '%T') == ['idle', 'idle'])


@cluster_test
def test_a_run_over_two_nodes_goes_on_when_the_second_was_killed_and_is_back(cluster,
                                                                             in_peace, tmp_path):
    assert disturbed(tmp_path, 2,
                     lambda job: script('node', cluster, kill_node(cluster, job, 1))) == in_peace(2)


@cluster_test
def test_what_does_not_finish_is_told_with_its_reason(cluster, refused, tmp_path):
    bad, good = setting('recipe.lr=1e30'), setting('recipe.epochs=10000')
    name = job_name([bad, good], tmp_path)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(reproduce_on_slurm, [bad, good], tmp_path, Runtime(checkpoint=.1),
                              Cluster(jobs=1))
        try: until(lambda: reached(tmp_path) >= 20 or waiting.done())
        finally: say('scancel', '--name', name)
        first, second = waiting.result(90)
    assert (first.id == bad.id and 'lower recipe.lr' in first.reason and
            (tmp_path/bad.id/ERROR).exists())
    assert second.id == good.id and 'no job is left' in second.reason
    assert 'Invalid partition' in refused('reproduce', '--tier', 'tiny', '--only', 'tks-table3',
                                          '--out', tmp_path/'o', '--launcher', 'slurm',
                                          '--partition', 'no')
