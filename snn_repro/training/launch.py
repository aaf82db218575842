"""Many runs on the cores or GPUs of this machine.

Each worker is a process that takes runs from the plan (`work`); here they are started, watched and,
at the end, asked what failed. What is left to do is the plan minus the finished folders, so a
launch that was stopped goes on where it was. One run that fails does not stop the others.
"""
import os, signal, subprocess, sys, time
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from snn_repro.core.distributed import in_team
from snn_repro.core.files import (ERROR, LOCK, check_target, held, make_folder, no_empty_folder,
                                  readable_errors)
from snn_repro.core.spec import check
from snn_repro.core.text import is_quiet, no_bars, plural
from snn_repro.experiments.experiment import Experiment
from snn_repro.records.queue import PLAN, fail, is_done, why_failed, write_plan
from snn_repro.records.runs import open_run
from snn_repro.training.data_check import look_once
from snn_repro.training.environment import (Runtime, check_device, check_extras, load_split,
                                            preflight)
from snn_repro.training.fit import check_data
from snn_repro.training.worker import ALLOCATOR_ENV, PARENT


LOOK = 0.5   # seconds from one look at the folders to the next


class Failure(NamedTuple):
    "A run that did not finish, and why."
    id: str
    reason: str


def with_teachers(experiments) -> list[Experiment]:
    "The unique `experiments` and their teachers, which come first."
    return list(dict.fromkeys([*(e.teacher for e in experiments if e.teacher), *experiments]))


def undone(experiments, out, root: Path | None = None) -> list[Experiment]:
    """What is not finished of `experiments` and their teachers in the folder `out`. Raises
    `UserError` if a finished run was changed, or its data were."""
    found = {e: open_run(Path(out)/e.id) for e in with_teachers(experiments)}
    for e, done in found.items():
        if done and 'files' in done.env:
            # older records would be hashed anew, one by one
            check_data(e, done, Path(out)/e.id, root)
    return [e for e, done in found.items() if done is None]


def try_out(experiments, root: Path | None = None, out: Path | None = None):
    """The preflight of one run of each kind, after a look at its data, which a folder `out` of runs
    remembers. Raises their `UserError`."""
    kinds = {}
    for e in experiments: kinds.setdefault((e.data, e.arch, e.T, e.augment, e.recipe.batch), e)
    for e in kinds.values():
        look_once(load_split(e.data, root, e.seed, e.T)[0], out)
        preflight(e, root)


def prepare(experiments, out, runtime: Runtime = Runtime(),
            keep: bool = True) -> tuple[Path, list[Experiment]]:
    """Write the plan of `experiments` and their teachers into the folder `out`, which is made:
    (`out`, what is left to do). What failed before is tried again. Without `keep` nothing stays of
    it. Raises `UserError` if `out` cannot be written or holds a changed run, or if a data set or
    net cannot be had."""
    check_extras(runtime)
    with no_empty_folder(out):
        out = make_folder(out)
        left = undone(experiments, out, runtime.root)
        try_out(left, runtime.root, out if keep else None)
        if keep: write_plan(with_teachers(experiments), out/PLAN)
        else: check_target(out/PLAN)
    for e in left if keep else ():
        with readable_errors(out/e.id): (out/e.id/ERROR).unlink(missing_ok=True)
    return out, left


def watch(left, out, alive, look: float = LOOK):
    """Show a bar over the runs `left` until each is done or failed, or `alive()`, which is asked at
    every look, says that none is at them."""
    waiting = [e.id for e in left]
    with tqdm(total=len(left), unit='run', disable=no_bars()) as bar:
        while True:
            going = alive()
            waiting = [i for i in waiting if not (is_done(out/i) or (out/i/ERROR).exists())]
            bar.update(len(left) - len(waiting) - bar.n)
            if not (waiting and going): return
            time.sleep(look)


def failures(left, out, otherwise: str) -> list[Failure]:
    """Which of the runs `left` did not finish, and why; `otherwise` is said of one that has no
    reason of its own."""
    def why(folder):
        if held(folder): return 'another process is at it: `snn-repro status` tells which'
        return why_failed(folder) or otherwise
    return [Failure(e.id, why(out/e.id)) for e in left if not is_done(out/e.id)]


class Ready(NamedTuple):
    """What can be launched: the runs `left` to do into the folder `out`, how many are `done`, and
    the `places` of the workers."""
    out: Path
    left: list[Experiment]
    done: int
    places: list[dict]


def get_ready(experiments, out, runtime: Runtime = Runtime(), workers: int | None = None,
              keep: bool = True) -> Ready:
    """All of `launch` that comes before a run is trained; without `keep` nothing is written. Raises
    `UserError` as `launch` does."""
    check(not in_team(), 'this starts its own processes', 'accelerate launch or torchrun',
          'start it alone, with --processes N')
    places = worker_places(runtime, workers)
    out, left = prepare(experiments, out, runtime, keep)
    return Ready(out, left, len(with_teachers(experiments)) - len(left), places[:len(left)])


def train_ready(ready: Ready, runtime: Runtime = Runtime()) -> list[Failure]:
    "Train what is `ready`, in processes of its own: which runs failed, and why."
    out, left, done, places = ready
    if not left: return []
    if not is_quiet():
        print(f'{plural(len(left), "run")} to do, {done} done before, {len(places)} at a time.')
    with _Workers(left, out, runtime, places) as team: watch(left, out, team.alive)
    return failures(left, out, f'not finished: its worker {team.ended or "left"}')


def launch(experiments, out, runtime: Runtime = Runtime(),
           workers: int | None = None) -> list[Failure]:
    """Run what is not finished yet of `experiments` and their teachers into folders under `out`,
    one run at a time in each of `workers` processes (default: one a core that this process may use,
    or one a GPU; fewer where `runtime.processes` share a run). Raises `UserError` before anything
    is trained where `prepare` does, or for a device that is not there; Ctrl-C leaves finished runs
    intact."""
    return train_ready(get_ready(experiments, out, runtime, workers), runtime)


def worker_places(runtime: Runtime, workers: int | None) -> list[dict]:
    "What each worker's environment says of the GPUs it may use."
    n = runtime.processes
    if runtime.device != 'cuda':
        check_device(runtime.device)
        return [{}]*(workers
                     or (max(1, len(os.sched_getaffinity(0))//n) if runtime.device == 'cpu' else 1))
    from torch.cuda import device_count
    count, listed = device_count(), os.environ.get('CUDA_VISIBLE_DEVICES')
    gpus = listed.split(',')[:count] if listed else [str(i) for i in range(count)]
    check(len(gpus) >= n, f'{len(gpus)} GPUs can be used here, a run needs {n}', "device 'cuda'",
          'cpu works everywhere')
    groups = [','.join(gpus[i:i + n]) for i in range(0, len(gpus) - n + 1, n)]
    return [{'CUDA_VISIBLE_DEVICES': groups[i % len(groups)]}
            for i in range(workers or len(groups))]


class _Workers:
    "The worker processes of a launch, one in each of `places`: as a context they end with it."
    def __init__(self, left, out: Path, runtime: Runtime, places):
        options = [f'--{k}={v}'
                   for k in ('root', 'device', 'threads', 'checkpoint', 'processes', 'tensorboard',
                             'fuse') if (v := getattr(runtime, k)) is not None]
        options += [f'--import={file}' for file in runtime.imports]
        self.command = [sys.executable, '-P', '-m', 'snn_repro', 'work', str(out), *options]
        self.env = (os.environ | ALLOCATOR_ENV | {'OMP_NUM_THREADS': str(runtime.threads),
                                           PARENT: str(os.getpid())})
        self.folders, self.places, self.team, self.ended = [out/e.id for e in left], places, [], ''
        self.before = {f: _lock(f) for f in self.folders}

    # in a session of its own, so that Ctrl-C reaches the parent alone
    def start(self, place: dict):
        process = subprocess.Popen(self.command, env=self.env | place, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, start_new_session=True)
        self.team.append((process, place))

    def __enter__(self):
        try:
            for place in self.places: self.start(place)
        except BaseException:
            self.__exit__(BaseException)
            raise
        return self

    def __exit__(self, kind, *_):
        for process, _ in self.team:
            if kind is None:   # nothing is left to do, so each is about to end by itself
                try: process.wait(60)
                except subprocess.TimeoutExpired: pass
            _end(process)

    def alive(self) -> bool:
        """Whether a worker is left. The run of one that was killed is marked as failed, and another
        worker goes on with the rest."""
        for process, place in [t for t in self.team if t[0].poll() is not None]:
            self.team.remove((process, place))
            if process.returncode == 0: continue
            _end(process)
            code = process.returncode
            self.ended = (f'was killed ({signal.Signals(-code).name})' if code < 0
                          else f'ended with exit code {code}')
            killed = [f for f in self.folders
                      if _lock(f) not in (None, self.before[f]) and not held(f) and not is_done(f)]
            for f in killed: fail(f, f'its process {self.ended}')
            if killed and not all(is_done(f) or (f/ERROR).exists() for f in self.folders):
                self.start(place)
        return bool(self.team)


def _end(process):
    "End a worker and whatever it started."
    for s in (signal.SIGTERM, signal.SIGKILL):
        try: os.killpg(process.pid, s)
        except (ProcessLookupError, PermissionError): return
        try: process.wait(5)
        except subprocess.TimeoutExpired: pass


def _lock(folder: Path) -> bytes | None:
    try: return (folder/LOCK).read_bytes()
    except OSError: return None
