"A run that is killed goes on with the very next step, and ends in the bytes of one left in peace."
import errno, json, os, random, shutil, signal, socket, subprocess, sys, time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from conftest import NAME, in_release, power_cut
from snn_repro.analysis.exhibits import asked
from snn_repro.core import files
from snn_repro.core.files import LOCK, SEAL, locked
from snn_repro.core.spec import UserError
from snn_repro.experiments.scaling import MINI_RECIPE
from snn_repro.experiments.tiers import find_tier
from snn_repro.training import checkpoint
from snn_repro.training.checkpoint import FOLDER, PLACES, load_checkpoint, save_checkpoint
from snn_repro.training.environment import Runtime
from snn_repro.training.fit import fit

pytestmark = pytest.mark.slow

SETTING = ['--set', 'recipe.epochs=8', '--set', 'recipe.test_every=3', '--set',
           'augment={"type": "CropFlip", "pad": 1}']
STEPS = 8*5


def command(out, *more):
    return [sys.executable, '-m', 'snn_repro', 'run', NAME, *SETTING, '--out', str(out), *more]


def run(out, *more):
    done = subprocess.run(command(out, *more), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr


def steps_of(folder: Path) -> int:
    "How many steps the checkpoints in a run's folder have seen."
    counts = []
    for p in folder.glob(f'*/{FOLDER}/?.json'):
        try: counts.append(json.loads(p.read_text())['count'])
        except (ValueError, FileNotFoundError): pass
    return max(counts, default=0)


def results(out):
    folder, = out.iterdir()
    assert not (folder/FOLDER).exists()
    return {n: (folder/n).read_bytes()
            for n in ('config.json', 'history.csv', 'outputs.safetensors', 'features.safetensors',
                      'metrics.json', 'weights.safetensors')}


@pytest.fixture(scope='module')
def in_peace(tmp_path_factory):
    out = tmp_path_factory.mktemp('peace')
    run(out)
    return results(out)


def in_writing(out) -> bool: return any(out.glob(f'*/{FOLDER}/*.part'))


def kill_after(out, steps: int, *more, writing=False, delay=0.):
    """Start or go on, with a checkpoint a step, and kill the process (and those it started) `delay`
    seconds after `steps` steps are saved; with `writing`, as soon as a checkpoint is being written
    after that. Returns the steps saved, and whether a half-written file was left."""
    for left in out.glob(f'*/{FOLDER}/*.part'): left.unlink()
    process = subprocess.Popen(command(out, '--checkpoint', '0', *more), stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.time() + 180
    alive = lambda: process.poll() is None and time.time() < deadline
    while steps_of(out) < steps and alive(): time.sleep(.001)
    while writing and not in_writing(out) and alive(): pass
    time.sleep(delay)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, 'it was not killed in time'
    return steps_of(out), in_writing(out)


def test_four_kills_change_no_byte(in_peace, tmp_path):
    chance, seen, halves = random.Random(0), [0], 0
    for left in (4, 3, 2, 1):
        steps, half = kill_after(tmp_path,
                                 seen[-1] + chance.randint(1, max(1, (STEPS - 4 - seen[-1])//left)),
                                 writing=left > 1)
        seen.append(steps)
        halves += half
    assert sorted(set(seen)) == seen and seen[-1] < STEPS, seen
    assert halves, 'no kill fell into the writing of a checkpoint'
    run(tmp_path)
    assert results(tmp_path) == in_peace


@in_release
@pytest.mark.parametrize('processes, kills', [(1, 20), (2, 8)])
def test_kills_at_random_moments_change_no_byte(tmp_path, processes, kills):
    long = '--set', 'recipe.epochs=25', '--processes', str(processes)
    steps, chance = 25*5, random.Random()
    run(tmp_path/'peace', *long)
    seen, halves = [0], 0
    for left in range(kills, 0, -1):
        at = seen[-1] + chance.randint(1, max(1, (steps - 4 - seen[-1])//left))
        writing = left % 2 == 0
        saved, half = kill_after(tmp_path/'killed', at, *long, writing=writing,
                                 delay=0 if writing else chance.uniform(0, .03))
        seen.append(saved)
        halves += half
    print(f'{processes}: killed after {seen[1:]} of {steps} steps, {halves} times in the middle '
          f'of writing')
    assert len(seen) == kills + 1 and sorted(seen) == seen and seen[-1] < steps and halves
    run(tmp_path/'killed', *long)
    assert results(tmp_path/'killed') == results(tmp_path/'peace')


def test_ctrl_c_is_told_in_one_line_and_changes_no_byte(in_peace, tmp_path):
    process = subprocess.Popen(command(tmp_path, '--checkpoint', '0'), stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, start_new_session=True)
    while steps_of(tmp_path) < 7 and process.poll() is None: time.sleep(.001)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and 'goes on from here' in err and 'Traceback' not in err, err
    run(tmp_path)
    assert results(tmp_path) == in_peace


@pytest.fixture
def small_disk(tmp_path):
    "A file system of 4 MiB, mounted for the test."
    disk = tmp_path/'disk'
    disk.mkdir()
    if subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', disk],
                      capture_output=True).returncode:
        pytest.skip('mounting is not allowed here')
    yield disk
    subprocess.run(['umount', '-l', disk], check=True)


def test_a_small_disk_that_fills_up_loses_nothing(in_peace, small_disk):
    ballast = small_disk/'ballast'
    process = subprocess.Popen(command(small_disk/'runs', '--checkpoint', '0'),
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while steps_of(small_disk/'runs') < 6 and process.poll() is None: time.sleep(.001)
    try: ballast.write_bytes(bytes(shutil.disk_usage(small_disk).free))
    except OSError: pass
    _, err = process.communicate(timeout=60)
    last = err.splitlines()[-1]
    assert (process.returncode == 1 and 'no space left on device (free some space' in last and
            'Traceback' not in err), err
    assert steps_of(small_disk/'runs') >= 6
    ballast.unlink()
    run(small_disk/'runs')
    assert results(small_disk/'runs') == in_peace


def test_a_disk_that_turns_read_only_loses_nothing(in_peace, small_disk):
    process = subprocess.Popen(command(small_disk/'runs', '--checkpoint', '0'),
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while steps_of(small_disk/'runs') < 6 and process.poll() is None: time.sleep(.001)
    become = lambda mode: subprocess.run(['mount', '-o', f'remount,{mode}', small_disk],
                                         capture_output=True).returncode == 0
    deadline = time.time() + 30
    # busy as long as a file is being written
    while not become('ro') and time.time() < deadline: pass
    _, err = process.communicate(timeout=60)
    assert become('rw') and process.returncode == 1 and 'Traceback' not in err, err
    assert 'read-only file system (choose a folder you may write to)' in err.splitlines()[-1]
    run(small_disk/'runs')
    assert results(small_disk/'runs') == in_peace


@pytest.mark.parametrize('harm', ['cut short', 'changed', 'gone', 'no sidecar'])
def test_a_damaged_checkpoint_is_passed_over(in_peace, tmp_path, harm):
    kill_after(tmp_path, 7)
    places = {p: tmp_path.glob(f'*/{FOLDER}/{p}.json').__next__() for p in PLACES}
    young = max(places.values(), key=lambda p: json.loads(p.read_text())['count'])
    tensors = young.with_suffix('.safetensors')
    if harm == 'cut short': tensors.write_bytes(tensors.read_bytes()[:-100])
    if harm == 'changed': tensors.write_bytes(tensors.read_bytes()[:-1] + b'\x01')
    if harm == 'gone': tensors.unlink()
    if harm == 'no sidecar': young.write_text('{')
    said = run(tmp_path)
    assert 'this checkpoint is not whole, going on from the one before' in said
    assert results(tmp_path) == in_peace


@pytest.fixture
def busy(tmp_path):
    """A long run in a process of its own, after its first checkpoints: (process, folder of runs,
    folder of the run)."""
    process = subprocess.Popen(command(tmp_path, '--checkpoint', '0', '--set',
                                       'recipe.epochs=3000'), stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    deadline = time.time() + 120
    while steps_of(tmp_path) < 3 and time.time() < deadline: time.sleep(.01)
    yield process, tmp_path, next(tmp_path.glob('*/lock')).parent
    process.kill()
    process.wait()


def test_a_second_process_is_refused_and_a_dead_ones_lock_is_taken_over(busy, refused, cli):
    process, out, folder = busy
    again = ['run', NAME, *SETTING, '--set', 'recipe.epochs=3000', '--out', out]
    assert (f'another process is at this run (process {process.pid} on ' in refused(*again) and
            process.poll() is None)
    process.kill()
    process.wait()
    assert (folder/'lock').exists()
    with locked(folder): assert json.loads((folder/'lock').read_text())['pid'] == os.getpid()
    assert not (folder/'lock').exists()


def test_a_folder_removed_meanwhile_is_told(busy):
    process, out, folder = busy
    folder.rename(out/'elsewhere')
    _, err = process.communicate(timeout=60)
    last = err.splitlines()[-1]
    assert (process.returncode == 1 and 'Traceback' not in err and
            ('removed while its run was training' in last or 'no such file' in last))
    assert not folder.exists()


@pytest.mark.parametrize('host, age, held',
                         [('elsewhere', 0, True), ('elsewhere', 1000, False), (None, 1000, False)])
def test_a_lock_is_left_behind_when_it_is_silent(tmp_path, monkeypatch, host, age, held):
    monkeypatch.setattr(files, 'BEAT', .1)
    lock = tmp_path/LOCK
    lock.write_text(json.dumps({'host': host or socket.gethostname(), 'pid': os.getpid()}))
    os.utime(lock, (time.time() - age,) * 2)
    if not held:
        with locked(tmp_path): assert lock.exists()
        return
    with pytest.raises(UserError, match='process [0-9]+ on elsewhere'):
        with locked(tmp_path): pass
    assert lock.exists()


def test_a_full_disk_keeps_what_was_good(tmp_path, monkeypatch):
    e = replace(asked(NAME, find_tier('mini'))[1], recipe=replace(MINI_RECIPE, epochs=4))
    fsync, left = os.fsync, iter(range(10))
    def full(descriptor):
        if next(left, None) is None: raise OSError(errno.ENOSPC, 'No space left on device')
        fsync(descriptor)
    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(UserError, match='no space left.*free some space'):
        fit(e, tmp_path/'full', Runtime(checkpoint=0))
    monkeypatch.setattr(os, 'fsync', fsync)
    assert load_checkpoint(tmp_path/'full'/e.id)[1]['sums']['steps'] == 4
    for out in ('full', 'peace'): fit(e, tmp_path/out, Runtime(checkpoint=0))
    for n in ('weights.safetensors', 'history.csv', 'outputs.safetensors'):
        assert (tmp_path/'full'/e.id/n).read_bytes() == (tmp_path/'peace'/e.id/n).read_bytes()


OTHERS = {'mini': {}, 'SGD in parts': dict(optimizer='sgd', lr=.05, micro_batch=10),
          'balanced, Adam': dict(optimizer='adam', sampler='balanced')}

@pytest.mark.parametrize('changes', OTHERS.values(), ids=OTHERS)
def test_the_state_after_a_resume_is_that_of_an_uninterrupted_run(tmp_path, changes):
    e = replace(asked(NAME, find_tier('mini'))[1],
                recipe=replace(MINI_RECIPE, epochs=6, test_every=2, **changes))
    with power_cut(after=23): fit(e, tmp_path/'once', Runtime(checkpoint=0))
    for part in (8, 15):
        with power_cut(after=part): fit(e, tmp_path/'twice', Runtime(checkpoint=0))
    (once, one), (twice, two) = (load_checkpoint(tmp_path/out/e.id) for out in ('once', 'twice'))
    assert (one['epoch'] == two['epoch'] == 4 and one['sums'] == two['sums'] and
            one['history'] == two['history'])
    assert once.keys() == twice.keys() and all(torch.equal(once[k], twice[k]) for k in once)
    assert {k.split('.')[0] for k in once} == {'net', 'opt', 'sums'} and any(k.endswith(
        'momentum_buffer' if e.recipe.optimizer == 'sgd' else 'exp_avg_sq') for k in once)


def test_after_a_damaged_checkpoint_the_good_one_is_not_overwritten_first(tmp_path, monkeypatch):
    for n in (1, 2): save_checkpoint(tmp_path, {'x': torch.full((3,), float(n))}, {'n': n})
    young = tmp_path/FOLDER/'b.safetensors'
    young.write_bytes(young.read_bytes()[:-1] + b'\x01')
    assert load_checkpoint(tmp_path)[1] == {'n': 1}
    fsync = os.fsync
    def full(descriptor): raise OSError(errno.ENOSPC, 'No space left on device')
    for good in range(2):   # the disk is full: at once, and after the tensors were written
        writes = iter(range(good))
        monkeypatch.setattr(os, 'fsync',
                            lambda d: fsync(d) if next(writes, None) is not None else full(d))
        with pytest.raises(UserError, match='no space left'):
            save_checkpoint(tmp_path, {'x': torch.full((3,), 3.)}, {'n': 3})
        assert load_checkpoint(tmp_path)[1] == {'n': 1}


def test_a_process_that_lost_its_lock_while_it_slept_writes_nothing_more(tmp_path):
    with locked(tmp_path) as still:
        still()
        (tmp_path/LOCK).unlink()
        with locked(tmp_path) as theirs:
            with pytest.raises(UserError, match='taken over after .* without a sign of life'):
                still()
            theirs()
        (tmp_path/LOCK).write_text('{"host": "elsewhere", "pid": 1}')
    # it does not remove another's lock
    assert json.loads((tmp_path/LOCK).read_text())['host'] == 'elsewhere'


def test_a_run_does_not_go_on_with_other_data(tmp_path, monkeypatch):
    e = replace(asked(NAME, find_tier('mini'))[1], recipe=replace(MINI_RECIPE, epochs=6))
    with power_cut(after=8): fit(e, tmp_path, Runtime(checkpoint=0))
    from snn_repro.training import fit as training
    load = training.load_split
    monkeypatch.setattr(training, 'load_split', lambda *a: (load(*a)[0], 'of another set'))
    monkeypatch.setattr(training, 'digest_of', lambda *sources: 'of another training part')
    with pytest.raises(UserError, match='the data set is another one than when this run began'):
        fit(e, tmp_path)


def test_what_was_half_written_goes_with_the_next_start(tmp_path):
    e = replace(asked(NAME, find_tier('mini'))[1], recipe=replace(MINI_RECIPE, epochs=2))
    with power_cut(after=2): fit(e, tmp_path, Runtime(checkpoint=0))
    half = tmp_path/e.id/FOLDER/'a.safetensors.123.part'
    half.write_bytes(b'half')
    with power_cut(after=1): fit(e, tmp_path, Runtime(checkpoint=0))
    assert not half.exists() and load_checkpoint(tmp_path/e.id)[1]['sums']['steps'] == 3


def test_a_zombie_holds_nothing(tmp_path):
    child = subprocess.Popen(['true'])
    while Path(f'/proc/{child.pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z':
        time.sleep(.01)
    with locked(tmp_path): lock = json.loads((tmp_path/LOCK).read_text())
    (tmp_path/LOCK).write_text(json.dumps(lock | {'pid': child.pid}))
    with locked(tmp_path): assert json.loads((tmp_path/LOCK).read_text())['pid'] == os.getpid()
    child.wait()


def test_two_places_take_turns(tmp_path):
    assert load_checkpoint(tmp_path) is None
    for n in range(1, 5):
        save_checkpoint(tmp_path, {'x': torch.full((3,), float(n))}, {'n': n, 'third': n/3})
        tensors, state = load_checkpoint(tmp_path)
        assert (state == {'n': n, 'third': n/3} and
                torch.equal(tensors['x'], torch.full((3,), float(n))))
    assert sorted(p.name for p in (tmp_path/FOLDER).iterdir()) == ['a.json', 'a.safetensors',
                                                                   'b.json', 'b.safetensors']


@pytest.mark.parametrize('changes',
                         ({'lr': 1e18, 'weight_decay': 0.}, {'lr': 1e18, 'optimizer': 'sgd'},
                          {'lr': 1e25, 'optimizer': 'sgd', 'weight_decay': 0.}), ids=str)
def test_what_is_not_finite_is_never_sealed(tmp_path, changes):
    e = replace(asked('tks-table3-cifar10-resnet19-baseline', find_tier('mini'))[1],
                recipe=replace(MINI_RECIPE, epochs=3, **changes))
    with pytest.raises(UserError, match=r'(holds|the loss is|reach) -?(inf|nan) in epoch \d, '
                       r'(after )?step \d+.*; the(re is no| last whole) checkpoint') as told:
        fit(e, tmp_path)
    assert str(told.value).isprintable() and not (tmp_path/e.id/SEAL).exists()


@pytest.mark.parametrize('which, words',
                         (('running_var', 'running_var of layer'), ('weight', 'weight of layer'),
                          ('exp_avg_sq', r'\(exp_avg_sq of the optimiser\) of layer')))
@pytest.mark.parametrize('every', (0, 300))
def test_a_value_that_the_loss_hides_is_named_with_layer_and_step(tmp_path, monkeypatch, which,
                                                                  words, every):
    from snn_repro.training import loop as epochs
    e, steps, seen = (replace(asked(NAME, find_tier('mini'))[1],
                              recipe=replace(MINI_RECIPE, epochs=2)), epochs.train_steps, [])
    def spoilt(e, net, source, opt, epoch, *more):
        for step, row in enumerate(steps(e, net, source, opt, epoch, *more)):
            if step == 3:
                last = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)][-1]
                spoil = {'running_var': last.running_var, 'weight': last.weight,
                         'exp_avg_sq': opt.state[last.weight].get('exp_avg_sq')}[which]
                spoil.data[0] = torch.inf
                seen.append(step)
            yield row
    monkeypatch.setattr(epochs, 'train_steps', spoilt)
    # the loss tells nothing
    monkeypatch.setattr(epochs.torch, 'isfinite', lambda x: torch.tensor(True))
    with pytest.raises(UserError, match=f'{words} .* holds (inf|nan) in epoch 0, after step '
                                        f'{4 if every == 0 else 5}'):
        fit(e, tmp_path, Runtime(checkpoint=every))
    assert seen and not (tmp_path/e.id/SEAL).exists()


def test_a_checkpoint_is_never_of_what_is_not_finite(tmp_path):
    net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    opt = torch.optim.AdamW(net.parameters())
    assert checkpoint.not_finite(net, opt) == ''
    net(torch.randn(4, 3)).sum().backward()
    opt.step()
    assert checkpoint.not_finite(net, opt) == ''
    net[1].running_var[1] = torch.nan
    assert checkpoint.not_finite(net, opt) == 'running_var of layer 1 holds nan'
    net[1].running_var[1] = 1.
    opt.state[net[0].bias]['exp_avg'][0] = -torch.inf
    assert (checkpoint.not_finite(net, opt) ==
            'bias (exp_avg of the optimiser) of layer 0 holds -inf')
