"""A queue goes on whatever happens to a run, a worker or its parent; no run is trained twice, and
none is lost."""
import json, os, signal, socket, subprocess, sys, threading, time
from dataclasses import replace
from pathlib import Path

import pytest

from snn_repro.core import files
from snn_repro.core.distributed import spawn
from snn_repro.core.files import ERROR, LOCK, SEAL, Held, locked, write_json
from snn_repro.core.spec import UserError
from snn_repro.data.images import CIFAR10
from snn_repro.experiments.papers import enof_experiment, tks_experiment
from snn_repro.experiments.scaling import MINI_RECIPE, mini
from snn_repro.records.queue import PLAN, Queue, read_plan, write_plan
from snn_repro.training import fit as training, worker
from snn_repro.training.environment import Runtime
from snn_repro.training.fit import fit
from snn_repro.training.launch import Failure, worker_places, launch, prepare
from snn_repro.training.worker import work

pytestmark = pytest.mark.slow


def tiny(seed=0, epochs=1, **recipe):
    e = mini(tks_experiment('CIFAR10', 'ResNet19', 'TKS'))
    return replace(e, seed=seed, data=replace(e.data, train_per_class=5, test=50),
                   recipe=replace(MINI_RECIPE, epochs=epochs, **recipe))


def student(seed=0):
    e = tiny(seed)
    return replace(e, objective=mini(enof_experiment(CIFAR10(), 'ResNet-20', 1, 'L_AF')).objective)


def seal(out, id):
    (out/id).mkdir(exist_ok=True)
    write_json(out/id/SEAL, {})


@pytest.fixture
def trained(monkeypatch):
    """Training without training: the ids in the order in which they were trained;
    `trained.fails[id]` is what one raises instead."""
    class Ids(list): fails = {}
    ids = Ids()
    def fake(e, out, runtime):
        if e.id in ids.fails: raise ids.fails[e.id]
        assert e.teacher is None or (out/e.teacher.id/SEAL).exists()
        ids.append(e.id)
        seal(out, e.id)
    monkeypatch.setattr(training, 'fit', fake)
    monkeypatch.setattr(worker, 'POLL', .05)
    return ids


def error(out, e): return json.loads((out/e.id/ERROR).read_text())


def test_one_run_that_fails_does_not_stop_the_others(trained, tmp_path, capsys):
    good, wrong, broken, other = map(tiny, range(4))
    write_plan([good, wrong, broken, other], tmp_path/PLAN)
    trained.fails = {wrong.id: UserError('the loss is nan', wrong.id),
                     broken.id: ZeroDivisionError('division by zero')}
    work(tmp_path)
    assert trained == [good.id, other.id]
    assert (error(tmp_path, wrong)['reason'] == f'{wrong.id}: the loss is nan' and
            'traceback' not in error(tmp_path, wrong))
    assert (error(tmp_path, broken)['reason'] == 'ZeroDivisionError: division by zero' and
            'Traceback' in error(tmp_path, broken)['traceback'])
    assert error(tmp_path, broken)['host'] == socket.gethostname()
    assert ([l.split()[0] for l in capsys.readouterr().out.splitlines()] ==
            ['done', 'failed', 'failed', 'done'])
    trained.fails = {}
    work(tmp_path)
    assert len(trained) == 2, 'a worker tries again what failed'
    assert ([e.id for e in prepare([good, wrong, broken, other], tmp_path/'new')[1]] ==
            [e.id for e in (good, wrong, broken, other)])
    for e in (good, other): (tmp_path/e.id/SEAL).unlink()
    assert (len(prepare([good, wrong, broken, other], tmp_path)[1]) == 4 and
            not list(tmp_path.glob(f'*/{ERROR}')))
    work(tmp_path)
    assert sorted(trained[2:]) == sorted(e.id for e in (good, wrong, broken, other))


def test_a_student_waits_for_its_teacher_and_fails_with_it(trained, tmp_path):
    one, two = student(0), student(1)
    write_plan([one, one.teacher, two, two.teacher], tmp_path/PLAN)
    trained.fails = {two.teacher.id: UserError('no')}
    work(tmp_path)
    assert trained == [one.teacher.id, one.id]
    assert error(tmp_path, two)['reason'] == f'its teacher {two.teacher.id} failed'


def test_a_student_waits_for_a_teacher_that_another_process_trains(trained, tmp_path):
    e = student()
    write_plan([e.teacher, e], tmp_path/PLAN)
    (tmp_path/e.teacher.id).mkdir()
    with locked(tmp_path/e.teacher.id):
        looks = Queue(tmp_path)
        assert [looks.take() for _ in range(3)] == [True]*3
        os.utime(tmp_path/e.teacher.id/LOCK, (1, 1))
        os.utime(tmp_path/e.teacher.id/LOCK)
        assert looks.take() is True, 'it left though a run will come free'
        seal(tmp_path, e.teacher.id)
        assert looks.take().id == e.id


def test_prepare_adds_the_teachers(tmp_path):
    e = student()
    assert ([r.id for r in prepare([e], tmp_path)[1]] == [e.teacher.id, e.id] ==
            [r.id for r in read_plan(tmp_path/PLAN)])


def test_a_run_that_another_process_took_first_is_passed_over(trained, tmp_path):
    one, two = tiny(0), tiny(1)
    write_plan([one, two], tmp_path/PLAN)
    class Race(dict):
        def __getitem__(self, id):
            seal(tmp_path, one.id)
            return Held('another process is at this run')
    trained.fails = Race({one.id: None})
    work(tmp_path)
    assert trained == [two.id] and not (tmp_path/one.id/ERROR).exists()


def lock_elsewhere(folder):
    folder.mkdir()
    (folder/LOCK).write_text(json.dumps({'host': 'elsewhere', 'pid': 1}))
    return folder/LOCK


def test_a_lock_of_another_host_that_stays_silent_is_waited_for_and_its_run_taken(trained, tmp_path,
                                                                                  monkeypatch):
    monkeypatch.setattr(files, 'SILENT', 1)
    monkeypatch.setattr(files, 'BEAT', .1)
    stale, free = tiny(0), tiny(1)
    write_plan([stale, free], tmp_path/PLAN)
    lock_elsewhere(tmp_path/stale.id)
    work(tmp_path)
    assert trained == [free.id, stale.id]


def test_a_lock_of_another_host_that_shows_life_is_left_alone(trained, tmp_path):
    busy, free = tiny(0), tiny(1)
    write_plan([busy, free], tmp_path/PLAN)
    lock = lock_elsewhere(tmp_path/busy.id)
    looks = Queue(tmp_path)
    seal(tmp_path, free.id)
    assert looks.take() is True and looks.take() is True
    os.utime(lock, ns=(0, time.time_ns() + 10**6))
    assert looks.take() is False and trained == []


@pytest.mark.parametrize('line, said', [
    ('{"id": "../x", "teacher": null, "experiment": {}}', 'no run can have the name'),
    ('{"id": "a/b", "teacher": null, "experiment": {}}', 'no run can'),
    ('{"id": "x", "teacher": "..", "experiment": {}}', 'no run can'),
    ('{"id": 3, "teacher": null, "experiment": {}}', 'no run can'),
    ('{"type": "Experiment"}', 'not a plan of this version'), ('[1]', 'not a plan'),
    ('{', 'not a plan')])
def test_a_plan_that_is_not_one_is_refused(refused, tmp_path, line, said):
    (tmp_path/'plan.jsonl').write_text(line + '\n')
    assert said in refused('work', tmp_path)
    assert ([p.name for p in tmp_path.iterdir()] == ['plan.jsonl'] and
            not (tmp_path.parent/'x').exists())


def test_no_plan_is_one_line(refused, tmp_path): assert 'plan.jsonl' in refused('work', tmp_path)


def test_a_plan_of_other_ids_fails_and_ends(trained, tmp_path):
    e = tiny()
    (tmp_path/'plan.jsonl').write_text(
        json.dumps({'id': 'other-s0-0', 'teacher': None, 'experiment': e.to_dict()}) + '\n')
    work(tmp_path)
    assert trained == [] and e.id in json.loads((tmp_path/'other-s0-0'/ERROR).read_text())['reason']


def test_a_launch_in_a_team_is_refused(teamed, tmp_path):
    teamed(0)
    with pytest.raises(UserError, match='starts its own processes.*--processes'):
        launch([tiny()], tmp_path/'runs')
    assert not (tmp_path/'runs').exists()


def test_a_worker_a_gpu(monkeypatch):
    monkeypatch.setattr('torch.cuda.device_count', lambda: 4)
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    def seen(workers=None, **more):
        places = worker_places(Runtime(device='cuda', **more), workers)
        return [p.get('CUDA_VISIBLE_DEVICES') for p in places]
    assert seen() == ['0', '1', '2', '3'] and seen(2) == ['0', '1'] and seen(5)[-1] == '0'
    assert seen(processes=2) == ['0,1', '2,3'] and seen(processes=3) == ['0,1,2']
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '7,5,3,1')
    assert seen(processes=2) == ['7,5', '3,1']
    with pytest.raises(UserError, match='4 GPUs can be used here, a run needs 8'): seen(processes=8)
    monkeypatch.setattr('os.sched_getaffinity', lambda _: range(8))
    how_many = [len(worker_places(Runtime(processes=n), workers))
                for n, workers in ((1, None), (3, None), (1, 3))]
    assert how_many == [8, 2, 3]


# From here on real processes.

RESULT = ('config.json', 'history.csv', 'outputs.safetensors', 'features.safetensors',
          'metrics.json', 'weights.safetensors')


def test_two_workers_share_a_plan(tmp_path):
    runs = [*map(tiny, range(4))]
    write_plan(runs, tmp_path/PLAN)
    pair = [subprocess.Popen([sys.executable, '-m', 'snn_repro', 'work', tmp_path],
                             stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [p.communicate(timeout=120)[0].split() for p in pair]
    done = [w for words in said for w in words if w.startswith('digits')]
    assert (sorted(done) == sorted(e.id for e in runs) and
            not any('failed' in words for words in said))


def test_a_team_works_at_a_plan_together(tmp_path):
    pytest.importorskip('accelerate')
    good, wrong, other = tiny(0), tiny(0, epochs=6, optimizer='sgd', lr=1e30), tiny(1)
    write_plan([good, wrong, other], tmp_path/PLAN)
    spawn(2, work, tmp_path, Runtime())
    assert [json.loads((tmp_path/e.id/'env.json').read_text())['processes']
            for e in (good, other)] == [2, 2]
    assert ('lower recipe.lr' in error(tmp_path, wrong)['reason'] and
            'traceback' not in error(tmp_path, wrong))


def wait_for(what, seconds=120):
    deadline = time.time() + seconds
    while not (found := what()) and time.time() < deadline: time.sleep(.005)
    return found


def test_a_killed_worker_is_told_and_the_same_command_finishes_its_run(tmp_path):
    long, short = tiny(0, epochs=100), tiny(1)
    def kill():
        wait_for(lambda: list((tmp_path/'q'/long.id).glob('checkpoint/b.json')))
        os.kill(json.loads((tmp_path/'q'/long.id/LOCK).read_text())['pid'], signal.SIGKILL)
    killer = threading.Thread(target=kill)
    killer.start()
    failed = launch([long, short], tmp_path/'q', Runtime(checkpoint=0), workers=1)
    killer.join()
    assert failed == [Failure(long.id, 'its process was killed (SIGKILL)')]
    assert (tmp_path/'q'/short.id/SEAL).exists(), 'no other worker went on'
    assert launch([long, short], tmp_path/'q', workers=1) == []
    fit(long, tmp_path/'peace')
    for n in RESULT:
        assert (tmp_path/'q'/long.id/n).read_bytes() == (tmp_path/'peace'/long.id/n).read_bytes(), n


def runs_still(pid):
    try: return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] not in 'ZX'
    except (FileNotFoundError, ProcessLookupError): return False


@pytest.mark.skipif(not Path('/proc/self/task').is_dir(),
                    reason='looks for processes in /proc of Linux')
@pytest.mark.parametrize('when', ['at once', 'in a run'])
def test_a_killed_parent_leaves_no_worker(tmp_path, when):
    parent = subprocess.Popen(
        [sys.executable, '-c', f'from test_queue import *\n'
         f'launch([tiny(0, 3000), tiny(1, 3000)], {str(tmp_path)!r}, workers=2)'],
        cwd=Path(__file__).parent, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    def children():
        try: return Path(f'/proc/{parent.pid}/task/{parent.pid}/children').read_text().split()
        except OSError: return []
    assert wait_for(lambda: len(children()) == 2 if when == 'at once'
                    else len(list(tmp_path.glob(f'*/{LOCK}'))) == 2)
    workers = children()
    parent.kill()
    parent.wait()
    assert len(workers) == 2 and wait_for(lambda: not any(map(runs_still, workers)), 60)
