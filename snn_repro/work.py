"""One worker of a queue: it trains the next run of the plan that is not finished, until none is
left.

The queue is a folder. `plan.jsonl` says which runs there are; that one is done, failed or in work
is read from its own folder. So any number of workers on any number of machines may share a plan,
come late, or be killed.
"""
import ctypes, json, os, signal, socket, sys, time, traceback
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

from snn_repro.files import (ERROR, LOCK, SEAL, Held, held, inside, make_folder, read_bytes,
                             read_json, write, write_json)
from snn_repro.spec import UserError, check, shown

PLAN, PARENT = 'plan.jsonl', 'SNN_REPRO_PARENT'
# seconds from one look at the folders to the next, where there is nothing to do but wait
POLL = 1.0
# Read by a worker when it starts: an allocator that keeps freed memory instead of giving it back to
# the system, since getting it again costs more than the arithmetic on it.
WORKER = {'MALLOC_MMAP_MAX_': '0', 'MALLOC_TRIM_THRESHOLD_': str(2**33),
          'MALLOC_TOP_PAD_': str(2**26)}


class Planned(NamedTuple):
    "A run of a plan: its id, its teacher's id or None, its setting as plain data."
    id: str
    teacher: str | None
    experiment: dict


def write_plan(experiments, path):
    "Write `experiments` (anything with `id`, `teacher` and `to_dict()`) as the plan `path`."
    line = lambda e: json.dumps({'id': e.id, 'teacher': e.teacher.id if e.teacher else None,
                                 'experiment': e.to_dict()})
    write(path, ''.join(line(e) + '\n' for e in experiments))


def read_plan(path) -> list[Planned]:
    """The runs of the plan `path`. Raises `UserError` if there is none, or one that names no runs
    or a folder elsewhere."""
    lines = read_bytes(path).splitlines()
    try: runs = [Planned(d['id'], d['teacher'], d['experiment']) for d in map(json.loads, lines)]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UserError('this is not a plan of this version', str(path),
                        'start `snn-repro reproduce` again') from None
    name = lambda i: isinstance(i, str) and len(i) < 200 and inside(i)
    for r in runs:
        check(name(r.id) and (r.teacher is None or name(r.teacher))
              and isinstance(r.experiment, dict), f'no run can have the name {shown(r.id)}',
              str(path))
    return runs


def is_done(folder) -> bool: return (Path(folder)/SEAL).exists()


def why_failed(folder) -> str | None:
    "The reason in a run's `error.json`; None if it has none."
    try:
        return (str(read_json(Path(folder)/ERROR)['reason']) if (Path(folder)/ERROR).exists()
                else None)
    except (UserError, KeyError, TypeError): return f'its {ERROR} cannot be read'


def fail(folder, reason: str, **more):
    "Leave word in a run's folder that it failed: until that is removed no worker tries it again."
    now = datetime.now(timezone.utc).isoformat(timespec='seconds')
    write_json(make_folder(folder)/ERROR,
               {'reason': reason, 'time': now, 'host': socket.gethostname()} | more)


class Queue:
    "The plan under `out`, or the one in the file `plan`, as one worker sees it."
    def __init__(self, out, plan=None):
        self.out, self.left, self.signs = (Path(out),
                                           {r.id: r for r in read_plan(plan or Path(out)/PLAN)}, {})
        self.planned = set(self.left)

    def take(self) -> Planned | bool:
        """The run to train next; True if one may become free later, False if nothing is left for
        this worker."""
        busy, early = [], False
        for run in list(self.left.values()):
            folder = self.out/run.id
            if is_done(folder): del self.left[run.id]
            elif (folder/ERROR).exists(): continue   # `reproduce` may ask for it again
            elif held(folder): busy.append(run.id)
            elif run.teacher is None or is_done(teacher := self.out/run.teacher): return run
            elif (teacher/ERROR).exists() and not held(teacher):
                fail(folder, f'its teacher {run.teacher} failed')
            elif run.teacher not in self.planned and not held(teacher): return run
            else: early = True
        return early or not all(self.alive(i) for i in busy)

    def alive(self, id: str) -> bool:
        """Whether the process that has this run gave a sign of life since it was first seen. One
        that has not may be gone, and its run free in a while."""
        try: sign = (self.out/id/LOCK).stat().st_mtime_ns
        except OSError: return False
        return self.signs.setdefault(id, sign) != sign


def work(out, runtime=None, plan=None):
    """Train the runs of the plan under `out` (or of the file `plan`), one after the other, until
    each is done, failed, or in work elsewhere. A run that fails is marked with its reason, and the
    next is taken. In a team (chapter 32b) its processes share each run. Raises `UserError` where
    there is no plan."""
    from snn_repro.experiments import Experiment
    from snn_repro.processes import team
    from snn_repro.environment import Runtime, check_device
    from snn_repro.training import fit
    runtime = runtime or Runtime()
    us = team(runtime.device)
    # a machine without its GPU must not fail one run after the other
    us.all(lambda: check_device(us.device))
    queue = us.first(lambda: Queue(out, plan))
    say = print if us.rank == 0 else lambda *a, **k: None
    while run := us.first(queue.take):
        if run is True:
            time.sleep(POLL)
            continue
        start = time.perf_counter()
        try:
            e = Experiment.from_dict(run.experiment)
            check(e.id == run.id, f'in this version its setting has the id {e.id}', run.id,
                  'start `snn-repro reproduce` again')
            fit(e, out, runtime)
        except Held: continue
        except Exception as error:
            if us.size == 1: check_device(us.device)   # a broken GPU ends the worker, not the run
            known = isinstance(error, UserError)
            reason = (str(error) if known
                      else f'{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}')
            say(f'failed  {run.id}: {reason}', flush=True)
            more = {} if known else {'traceback': traceback.format_exc()}
            if us.size > 1 and not known:   # the others do not know of it: the team ends here
                if not left_alone(error): fail(queue.out/run.id, reason, **more)
                raise
            us.first(lambda: fail(queue.out/run.id, reason, **more))
        else: say(f'done    {run.id}  {time.perf_counter() - start:.1f} s', flush=True)


def left_alone(error: Exception) -> bool:
    "Whether it says that another process of the team is gone: no fault of the run."
    from torch.distributed import DistError
    return isinstance(error, DistError) or 'gloo/transport' in str(error)


def settle():
    "Start this process again, as it was started, with the environment `WORKER`, unless it has it."
    if any(os.environ.get(k) != v for k, v in WORKER.items()):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | WORKER)


def end_with_parent():
    "Where `launch` started this process: have it killed when that one ends, however it ends."
    parent = os.environ.pop(PARENT, '')
    if not parent.isdecimal(): return
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)   # PR_SET_PDEATHSIG
    if os.getppid() != int(parent): os._exit(1)
