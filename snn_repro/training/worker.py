"""One worker of a queue: it trains the next run of the plan that is not finished, until none is
left."""
import ctypes, os, signal, sys, time, traceback

from snn_repro.core.files import Held
from snn_repro.core.spec import UserError, check
from snn_repro.core.text import is_quiet
from snn_repro.records.queue import Queue, fail

PARENT = 'SNN_REPRO_PARENT'
# seconds from one look at the folders to the next, where there is nothing to do but wait
POLL = 1.0
# Read by a worker when it starts: an allocator that keeps freed memory instead of giving it back to
# the system, since getting it again costs more than the arithmetic on it.
ALLOCATOR_ENV = {'MALLOC_MMAP_MAX_': '0', 'MALLOC_TRIM_THRESHOLD_': str(2**33),
          'MALLOC_TOP_PAD_': str(2**26)}


def work(out, runtime=None, plan=None):
    """Train the runs of the plan under `out` (or of the file `plan`), one after the other, until
    each is done, failed, or in work elsewhere. A run that fails is marked with its reason, and the
    next is taken. In a team (chapter 6.2) its processes share each run. Raises `UserError` where
    there is no plan."""
    from snn_repro.core.distributed import team
    from snn_repro.core.own import import_file
    from snn_repro.experiments.experiment import Experiment
    from snn_repro.training.environment import Runtime, check_device
    from snn_repro.training.fit import fit
    runtime = runtime or Runtime()
    for file in runtime.imports: import_file(file)
    dist = team(runtime.device)
    # a machine without its GPU must not fail one run after the other
    dist.on_each(lambda: check_device(dist.device))
    queue = dist.on_main(lambda: Queue(out, plan))
    say = print if dist.rank == 0 else lambda *a, **k: None
    while run := dist.on_main(queue.take):
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
            # a broken GPU ends the worker, not the run
            if dist.size == 1: check_device(dist.device)
            known = isinstance(error, UserError)
            reason = (str(error) if known
                      else f'{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}')
            say(f'failed  {run.id}: {reason}', flush=True)
            more = {} if known else {'traceback': traceback.format_exc()}
            if dist.size > 1 and not known:   # the others do not know of it: the team ends here
                if not left_alone(error): fail(queue.out/run.id, reason, **more)
                raise
            dist.on_main(lambda: fail(queue.out/run.id, reason, **more))
        else:
            took = time.perf_counter() - start
            if not is_quiet(): say(f'done    {run.id}  {took:.1f} s', flush=True)


def left_alone(error: Exception) -> bool:
    "Whether it says that another process of the team is gone: no fault of the run."
    from torch.distributed import DistError
    return isinstance(error, DistError) or 'gloo/transport' in str(error)


def reexec_with_allocator():
    """Start this process again, as it was started, with the environment `ALLOCATOR_ENV`, unless it
    has it."""
    if any(os.environ.get(k) != v for k, v in ALLOCATOR_ENV.items()):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | ALLOCATOR_ENV)


def end_with_parent():
    "Where `launch` started this process: have it killed when that one ends, however it ends."
    parent = os.environ.pop(PARENT, '')
    if not parent.isdecimal(): return
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)   # PR_SET_PDEATHSIG
    if os.getppid() != int(parent): os._exit(1)
