"""How long tables and figures take on this machine: a few steps of each kind of run are timed, the
rest is arithmetic."""
import heapq, math, time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
from tqdm import tqdm

from snn_repro.analysis.catalogue import plan
from snn_repro.analysis.exhibits import names
from snn_repro.core.spec import UserError, check, edits
from snn_repro.core.text import quiet, span, text_table, wrap
from snn_repro.data.placeholder import Unseen, extent
from snn_repro.experiments.experiment import Experiment
from snn_repro.experiments.tiers import Tier
from snn_repro.records.queue import is_done
from snn_repro.training.data_check import trace
from snn_repro.training.environment import (Runtime, check_device, environment_info, load_split,
                                            threads, try_steps)
from snn_repro.training.launch import try_out, with_teachers
from snn_repro.training.loop import batches, build, forward

# images of the timed test pass, as many as `evaluate` takes at a time if they are small
BATCH = 250


class Cost(NamedTuple):
    """What a run takes: `steps` of `step` seconds and `passes` over the test images of `test`
    seconds."""
    steps: int
    step: float
    passes: int
    test: float

    @property
    def seconds(self) -> float: return self.steps*self.step + self.passes*self.test


def cost(e: Experiment, steps: int, runtime: Runtime, out: Path | None = None) -> Cost:
    """The cost of `e`: the median of `steps` timed steps after a warm-up, where an epoch has more
    than one; and one batch of test images. Raises `UserError` as `fit` does."""
    try:
        with quiet(True):   # what these few steps lack is nothing to tell of
            took = try_steps(e, steps + 1, runtime, out)['seconds'].tolist()
        with threads(runtime.threads): test = _test_pass(e, runtime)
    except torch.OutOfMemoryError:
        raise UserError('the memory of the GPU is too small for it', e.slug,
                        'say --set recipe.micro_batch=N with an N that divides the batch') from None
    split, _ = load_split(e.data, runtime.root, e.seed, e.T)
    return Cost(e.recipe.epochs*len(batches(e, split.train, 0)), median(took[1:] or took),
                math.ceil(e.recipe.epochs/e.recipe.test_every), test)


@torch.inference_mode()
def _test_pass(e: Experiment, runtime: Runtime) -> float:
    "Seconds over all test images, from the second of two passes over one batch."
    split, _ = load_split(e.data, runtime.root, e.seed, e.T)
    net, test = build(e, split).to(runtime.device).eval(), split.test
    index = torch.arange(min(BATCH, len(test), max(1, 2**24//(e.T*math.prod(test.shape)))))
    for _ in range(2):
        start = time.perf_counter()
        forward(net, test.ready(test.batch(index)[0].to(runtime.device)),
               e.recipe.precision).logits.cpu()
    return (time.perf_counter() - start)*len(test)/len(index)


def timed(e: Experiment, root: Path | None) -> Experiment:
    """`e`, or where its data cannot be read here, the same on images of chance of their form.
    That is, if their form is known."""
    try: load_split(e.data, root, e.seed, e.T)
    except UserError:
        if extent(e.data): return replace(e, data=Unseen(of=e.data))
    return e


def unseen(kinds, root: Path | None) -> list[str]:
    "What has to be said of the data sets that `kinds` name and that were not there to be timed."
    def name(data): return name(data.of) if hasattr(data, 'of') else type(data).__name__
    sets = {name(e.data): trace(e.data, root) is not None for e in kinds}
    if not sets: return []
    missing, unready = ([n for n in sorted(sets) if sets[n] == there] for there in (False, True))
    why = ' and '.join([f'these sets are not in {root}: {", ".join(missing)}']*bool(missing) +
                       [f'these cannot be used as they are: {", ".join(unready)}']*bool(unready))
    said = [f'Timed on images of chance, since {why}. What it takes to read their files is not '
            'counted.']
    if 'FewCars' in sets:
        said.append('Of FewCars as many images of a class are assumed as Stanford Cars has on '
                    'average.')
    return said


def share(hours, devices: int) -> float:
    "When the last of `devices` ends, if each takes the longest run that is left."
    ends = [0.0]*devices
    for h in sorted(hours, reverse=True): heapq.heapreplace(ends, ends[0] + h)
    return max(ends)


def estimate(exhibits, tier: Tier, out, root=None, device: str = 'cpu', steps: int = 5,
             devices: int = 1, changes=(), width: int = 100) -> str:
    """A page of text: the hours of each kind of run that `exhibits` need in `tier`.
    `changes` are such as 'recipe.micro_batch=32'. Then the hours of all that is not finished in the
    folder `out`, on `devices` processors or GPUs like this one. Data sets that cannot be read here
    are stood in for by images of chance of their form and number. Raises `UserError` before
    anything is timed if a data set of unknown form or a net cannot be had."""
    runtime = Runtime(root, device)
    check_device(device)
    machine = environment_info(device)['hardware']
    runs = with_teachers([edits(e, changes) for e in plan(exhibits, tier)])
    check(runs, 'these tables and figures need no runs', ', '.join(x.id for x in exhibits))
    called = {edits(s, changes): n for x in reversed(exhibits)
              for n, e in reversed(names(x).items()) if (s := tier.scale(e))}
    kinds = {}
    for e in runs: kinds.setdefault(replace(e, seed=0), []).append(e)
    stands_in = {kind: timed(its[0], root) for kind, its in kinds.items()}
    try_out(stands_in.values(), root, out)
    costs = {kind: cost(stands_in[kind], steps, runtime, out)
             for kind in tqdm(kinds, unit='kind', leave=False, disable=None)}
    rows = [(called.get(kind) or f'{kind.slug} (teacher)', len(kinds[kind]), kind.recipe.epochs,
             c.steps, _digits(c.step, 3), _digits(c.seconds/3600)) for kind, c in costs.items()]
    hours = {e: costs[replace(e, seed=0)].seconds/3600 for e in runs}
    left = [h for e, h in hours.items() if not is_done(Path(out)/e.id)]
    said = [f'All {len(runs)} runs: {_digits(sum(hours.values()))} hours of '
            f'{machine.get("gpu") or "one thread of " + machine["cpu"]}.', f'To do: {len(left)} of '
            f'them ({len(runs) - len(left)} are done in {out}), {_digits(sum(left))} hours; '
            f'{devices} at a time, about {span(3600*share(left, devices))}.']
    said += unseen([kind for kind, e in stands_in.items() if isinstance(e.data, Unseen)], root)
    heads = 'run', 'runs', 'epochs', 'steps', 's/step', 'hours'
    return '\n\n'.join([text_table(heads, rows, width), *(wrap(t, width) for t in said)])


def _digits(x: float, n: int = 2) -> str:
    "A number with `n` digits that count, and no fewer than it has before the point."
    return f'{x:.{max(0, n - 1 - math.floor(math.log10(x)))}f}' if x > 0 else '0'
