"""Many runs as jobs of a SLURM cluster, through submitit.

A job is a worker as on one machine: it takes the next undone run of its plan, a copy in OUT/slurm,
until none is left. All it knows is in the run folders, so a job that is requeued, after a time-out,
a preemption or the death of a node, goes on where these stand.
"""
import hashlib, os, shutil, sys, time
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import NamedTuple

from snn_repro.core.extras import needed

needed('submitit', 'cluster')
from submitit.core.utils import FailedJobError, FailedSubmissionError
from submitit.helpers import DelayedSubmission, TorchDistributedEnvironment
from submitit.slurm.slurm import SlurmExecutor

from snn_repro.core.distributed import in_team
from snn_repro.core.files import make_folder, readable_errors
from snn_repro.core.spec import UserError, check
from snn_repro.core.system import answer, env_count
from snn_repro.core.text import is_quiet, plural
from snn_repro.records.queue import write_plan
from snn_repro.training.environment import Runtime
from snn_repro.training.launch import Failure, failures, prepare, undone, watch, with_teachers
from snn_repro.training.worker import ALLOCATOR_ENV

FOLDER = 'slurm'
ASK = 10   # seconds from one question to SLURM to the next
OURS = {'partition': '--partition', 'time': '--time', 'nodes': '--nodes',
        'ntasks_per_node': '--processes', 'cpus_per_task': '--threads',
        'gpus_per_node': '--device', 'array': '--jobs'}
FIXED = ('job_name', 'signal', 'requeue', 'output', 'error', 'open_mode')


class Cluster(NamedTuple):
    """What is asked of SLURM: `jobs` at a time, each on `nodes` nodes for `minutes` (then it is
    requeued), in `partition`; `sbatch`: further options of sbatch as KEY=VALUE, or KEY alone."""
    partition: str | None = None
    jobs: int = 8
    nodes: int = 1
    minutes: int = 240
    sbatch: tuple[str, ...] = ()


class Worker:
    """What a job runs. submitit calls `checkpoint` before a time-out or a preemption, and requeues
    what it returns: the same worker."""
    def __init__(self, out: Path, runtime: Runtime, plan: Path):
        self.out, self.runtime, self.plan = out, runtime, plan

    def __call__(self):
        if env_count('SLURM_NTASKS') > 1:
            TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
        from snn_repro.training.worker import work
        work(self.out, self.runtime, self.plan)

    def checkpoint(self): return DelayedSubmission(self)


class _Executor(SlurmExecutor):
    "submitit's, which can also write a script where SLURM is not installed."
    @classmethod
    def affinity(cls): return 2

    def script(self, jobs: int) -> str:
        if jobs > 1: self.parameters['map_count'] = jobs
        return self._make_submission_file_text(self._submitit_command_str, '')


def executor(experiments, out, runtime: Runtime, cluster: Cluster) -> _Executor:
    """What submits to SLURM with these settings, its scripts and logs in OUT/slurm. Raises
    `UserError` for settings that cannot be."""
    check(cluster.minutes >= 5, f'--time is {cluster.minutes}',
          remedy='choose 5 minutes or more: a job is told 90 seconds before its time is out')
    for name in ('jobs', 'nodes'):
        check(getattr(cluster, name) >= 1, f'--{name} is {getattr(cluster, name)}',
              remedy='choose 1 or more')
    e = _Executor(Path(out).resolve()/FOLDER, max_num_timeout=10**6)
    environment = ALLOCATOR_ENV | {'OMP_NUM_THREADS': str(runtime.threads)}
    e.update_parameters(
        job_name=job_name(experiments, out), partition=cluster.partition, time=cluster.minutes,
        nodes=cluster.nodes, ntasks_per_node=runtime.processes,
        gpus_per_node=runtime.processes if runtime.device.startswith('cuda') else None,
        cpus_per_task=runtime.threads,
        # srun does not take it from sbatch
        srun_args=[f'--cpus-per-task={runtime.threads}', '--kill-on-bad-exit=1'],
        array_parallelism=cluster.jobs, wckey=None,
        setup=[f'export {k}={v}' for k, v in environment.items()],
        additional_parameters={'requeue': True} | sbatch_options(cluster.sbatch))
    return e


def sbatch_options(words) -> dict:
    """`('mem=8G', 'exclusive')` as sbatch's options. Raises `UserError` for one that has another
    place."""
    options = {}
    for word in words:
        key, given, value = word.lstrip('-').partition('=')
        name = key.replace('-', '_')
        check(key, f'--sbatch {word!r} names no option', remedy='say --sbatch KEY=VALUE')
        check(name not in FIXED, f'--sbatch {key}: snn-repro sets this itself')
        check(name not in OURS, f'--sbatch {key}: this has an option of its own',
              remedy=f'use {OURS.get(name)}')
        options[name] = value if given else True
    return options


def job_name(experiments, out) -> str:
    """The name by which the jobs for `experiments` in the folder `out` are found again in SLURM's
    queue."""
    what = '\n'.join([str(Path(out).resolve()), *(e.id for e in experiments)])
    return 'snn-repro-' + hashlib.sha256(what.encode()).hexdigest()[:8]


def queued(name: str) -> dict[str, str] | None:
    """The jobs of this name that SLURM has, waiting or running: {id: state}; None where SLURM does
    not answer."""
    said = answer(['squeue', '-hr', '-u', str(os.getuid()), '-n', name, '-o', '%i %T'], patience=60)
    lines = None if said is None else [line.split() for line in said.splitlines()]
    return dict(lines) if lines is not None and all(len(words) == 2 for words in lines) else None


def submit(e: _Executor, out, runtime: Runtime, jobs: int, plan: Path) -> list[str]:
    """Put `jobs` workers for the folder `out` and the file `plan` into SLURM's queue; their job
    ids. Raises `UserError` with sbatch's words where it refuses."""
    with readable_errors(out), redirect_stderr(StringIO()):
        try:
            return [j.job_id for j in e.submit_array([Worker(Path(out).resolve(), runtime,
                                                             plan.resolve())]*jobs)]
        except (FailedJobError, FailedSubmissionError) as error:
            said = ([line for line in str(error).splitlines() if 'error' in line]
                    or str(error).splitlines())
            raise UserError(said[-1].replace('sbatch: error:', '').strip(), 'sbatch',
                            'mend --partition, --time, … or --sbatch') from error


def reproduce_on_slurm(experiments, out, runtime: Runtime, cluster: Cluster,
                       dry_run: bool = False) -> list[Failure]:
    """Run what is not finished of `experiments` and their teachers into folders under `out` on a
    SLURM cluster, and wait for it; the runs that failed, and why.

    No more jobs are submitted than there are runs to do, less those that an earlier call left in
    the queue. Ctrl-C ends the waiting, not the jobs. With `dry_run` the script of sbatch and what
    it would run are printed, and nothing is submitted or written."""
    runtime = runtime._replace(root=runtime.root and Path(runtime.root).resolve())
    check(not in_team(), 'this submits jobs', 'accelerate launch or torchrun', 'start it alone')
    e, name = executor(experiments, out, runtime, cluster), job_name(experiments, out)
    if dry_run: return print(_dry(e, undone(experiments, out), out, cluster)) or []
    check(shutil.which('sbatch'), 'SLURM is not installed here (no sbatch)',
          remedy='start this on a login node; --dry-run works anywhere')
    out, left = prepare(experiments, out, runtime)
    if not left: return []
    jobs = queued(name)
    check(jobs is not None, 'SLURM does not answer (squeue)',
          remedy='start the same command again when `squeue` works')
    more = max(0,
               min(cluster.jobs, len(left)) - sum(state != 'COMPLETING' for state in jobs.values()))
    # another `reproduce` into this folder writes another plan.jsonl, perhaps before these jobs
    # begin
    plan = make_folder(out/FOLDER)/f'{name}.jsonl'
    write_plan(with_teachers(experiments), plan)
    if more: submit(e, out, runtime, more, plan)
    before = len(with_teachers(experiments)) - len(left)
    if not is_quiet():
        print(f'{plural(len(left), "run")} to do, {before} done before; {more} jobs submitted, '
              f'{len(jobs)} in the queue before.', flush=True)
    try: watch(left, out, _Alive(name))
    except KeyboardInterrupt:
        print(f'\nThe jobs go on: `snn-repro status {out}` tells how far they are, the same '
              f'command watches again, `scancel --name={name}` ends them.', file=sys.stderr)
        raise
    return failures(left, out, f'not finished, and no job is left: see {out/FOLDER}/*.err')


class _Alive:
    "Whether SLURM still has a job of this name, or does not answer; asked every `ASK` seconds."
    def __init__(self, name: str): self.name, self.last, self.answer = name, time.monotonic(), True

    def __call__(self) -> bool:
        if time.monotonic() - self.last >= ASK:
            self.last, self.answer = time.monotonic(), queued(self.name) != {}
        return self.answer


def _dry(e: _Executor, left, out, cluster: Cluster) -> str:
    if not left: return 'A dry run: every run is finished, no job would be submitted.'
    jobs = min(cluster.jobs, len(left))
    return '\n'.join([e.script(jobs), f'A dry run: nothing was submitted. {jobs} '
                      f'{"jobs" if jobs > 1 else "job"} of this script would share {len(left)} '
                      f'runs; each does `snn-repro work {out}`, which takes the next undone run '
                      'until none is left:', *(f'  {x.id}' for x in left)])
