"""A queue of runs: a plan, and what of it is done, failed, in work, or to be taken next.

The queue is a folder. `plan.jsonl` says which runs there are; that one is done, failed or in work
is read from its own folder. So any number of workers on any number of machines may share a plan,
come late, or be killed.
"""
import json, socket
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

from snn_repro.core.files import (ERROR, LOCK, SEAL, held, inside, make_folder, read_bytes,
                                  read_json, write, write_json)
from snn_repro.core.spec import UserError, check, shown

PLAN = 'plan.jsonl'


class PlannedRun(NamedTuple):
    "A run of a plan: its id, its teacher's id or None, its setting as plain data."
    id: str
    teacher: str | None
    experiment: dict


def write_plan(experiments, path):
    "Write `experiments` (anything with `id`, `teacher` and `to_dict()`) as the plan `path`."
    line = lambda e: json.dumps({'id': e.id, 'teacher': e.teacher.id if e.teacher else None,
                                 'experiment': e.to_dict()})
    write(path, ''.join(line(e) + '\n' for e in experiments))


def read_plan(path) -> list[PlannedRun]:
    """The runs of the plan `path`. Raises `UserError` if there is none, or one that names no runs
    or a folder elsewhere."""
    lines = read_bytes(path).splitlines()
    try: runs = [PlannedRun(d['id'], d['teacher'], d['experiment']) for d in map(json.loads, lines)]
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

    def take(self) -> PlannedRun | bool:
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
