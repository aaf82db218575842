"""Many runs on the cores of this machine.

What is left to do is the plan minus the finished folders, so a launch that was stopped goes on where it was.
One run that fails does not stop the others.
"""
import json, os, signal
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from snn_repro.experiments import Experiment
from snn_repro.files import make_folder, write
from snn_repro.runs import open_run
from snn_repro.spec import UserError
from snn_repro.training import Runtime, fit, preflight


# Read by a worker when it starts: one thread a run, and an allocator that keeps freed memory instead of giving it back to the
# system, since getting it again costs more than the arithmetic on it.
WORKER = {'OMP_NUM_THREADS': '1', 'MALLOC_MMAP_MAX_': '0', 'MALLOC_TRIM_THRESHOLD_': str(2**33), 'MALLOC_TOP_PAD_': str(2**26)}


class Failure(NamedTuple):
    "A run that did not finish, and why."
    id: str
    reason: str


def launch(experiments, out, workers: int | None = None, root: Path | None = None, device: str = 'cpu') -> list[Failure]:
    """Run what is not finished yet of `experiments` (teachers first, as `exhibits.plan` orders them) into folders under `out`,
    one thread and one run at a time in each of `workers` processes (default: the cores this process may use). `root`: folder of data sets; `device`: where all train.
    Raises `UserError` before anything is trained if `out` cannot be written or holds a changed run, or if a data set or net cannot be had;
    Ctrl-C leaves finished runs intact."""
    out = make_folder(out)
    write(out/'plan.jsonl', ''.join(e.to_json() + '\n' for e in experiments))
    left = [e for e in experiments if open_run(out/e.id) is None]
    if not left: return []
    kinds = {}
    for e in left: kinds.setdefault((e.data, e.arch, e.T, e.augment, e.recipe.batch), e)
    for e in kinds.values(): preflight(e, root)
    workers = min(workers or len(os.sched_getaffinity(0)), len(left))
    done = len(experiments) - len(left)
    print(f'{len(left)} runs to do, {done} done before, {workers} at a time.')
    failures, teachers = [], {e.teacher.id for e in experiments if e.teacher}
    with tqdm(total=len(left), unit='run', disable=None) as bar, _Pool(workers) as pool:
        for stage in ([e for e in left if e.id in teachers], [e for e in left if e.id not in teachers]):
            failures += pool.finish(stage, out, Runtime(root, device), bar)
    return failures


class _Pool:
    "Worker processes that start from nothing (spawn) and leave Ctrl-C to the parent."
    def __init__(self, workers: int):
        self.before = {k: os.environ.get(k) for k in WORKER}
        os.environ |= WORKER
        self.pool = ProcessPoolExecutor(workers, mp_context=get_context('spawn'), initializer=signal.signal,
                                        initargs=(signal.SIGINT, signal.SIG_IGN))

    def __enter__(self): return self

    def __exit__(self, kind, *_):
        if kind is not None:
            for p in list(self.pool._processes.values()): p.terminate()
        self.pool.shutdown(cancel_futures=True)
        for k, v in self.before.items():
            if v is None: del os.environ[k]
            else: os.environ[k] = v

    def finish(self, experiments, out: Path, runtime: Runtime, bar) -> list[Failure]:
        failures, waiting = [], {self.pool.submit(_run, e.to_json(), out, runtime): e for e in experiments}
        while waiting:
            finished, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in finished:
                e = waiting.pop(future)
                reason = future.result() if future.exception() is None else f'{type(future.exception()).__name__}: {future.exception()}'
                if reason: failures.append(Failure(e.id, reason))
                bar.update()
        return failures


def _run(setting: str, out: Path, runtime: Runtime) -> str | None:
    "Train one experiment in a worker; the reason if it failed."
    try: fit(Experiment.from_dict(json.loads(setting)), out, runtime)
    except UserError as e: return str(e)
