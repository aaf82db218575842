"""What a folder of runs tells while they are trained and afterwards, and what differs between two
runs.

All of it is read from files; nothing here imports torch, so the answer comes at once, beside
whatever is training.
"""
import time
from pathlib import Path
from typing import NamedTuple

from snn_repro.core.files import ERROR, LOCK, SEAL, held, read_json, readable_errors
from snn_repro.core.spec import UserError, check
from snn_repro.core.text import differences, plural, printable, span, text_table, wrap
from snn_repro.records.queue import PLAN, is_done, read_plan, why_failed


class RunProgress(NamedTuple):
    """How far a run is: `state` is done, running, failed or left; `epoch` of `epochs` and `seconds`
    as its last checkpoint has them, None if it has none."""
    id: str
    state: str
    epoch: int = 0
    epochs: int | None = None
    seconds: float | None = None

    @property
    def slug(self) -> str: return self.id.rsplit('-', 2)[0]

    @property
    def rate(self) -> float | None:
        "Seconds an epoch."
        return self.seconds/self.epoch if self.seconds is not None and self.epoch else None


def status(out, width: int = 100) -> str:
    """A page of text about the runs in the folder `out`, no line longer than `width`. Raises
    `UserError` if there are none."""
    out = Path(out)
    check(out.is_dir(), 'there is no such folder of runs', str(out),
          'a run makes it: `snn-repro reproduce`')
    runs, note = _runs(out)
    check(runs, 'there are no runs in this folder', str(out),
          'name the folder that was given as --out')
    of = {s: [r for r in runs if r.state == s] for s in ('done', 'running', 'failed', 'left')}
    begun = sum(r.epoch > 0 or (out/r.id/'checkpoint').is_dir() for r in of['left'])
    counts = (', '.join(f'{len(v)} {s}' for s, v in of.items() if v)
              + (f' ({begun} of them begun)' if begun else ''))
    lines = [wrap(f'{out}: {plural(len(runs), "run")}: {counts}.', width)]
    if note: lines.append(wrap(note, width))
    if of['running'] or of['left']:
        left = seconds_left(runs)
        how = (f'about {span(left)}, {max(1, len(of["running"]))} at a time' if left is not None
               else 'not known yet')
        lines.append(wrap(f'Time left: {how}.', width))
    if of['running']:
        rows = [(r.id, f'{r.epoch} of {r.epochs or "?"}', *_holder(out/r.id/LOCK))
                for r in of['running']]
        heads = 'running', 'epoch', 'process', 'sign of life'
        lines.append('\n' + text_table(heads, rows, width))
    if of['failed']:
        said = '\n'.join(f'{wrap(r.id, width)}\n{wrap(why_failed(out/r.id) or "", width, "  ")}'
                         for r in of['failed'])
        lines.append(f'\nfailed\n{said}\n\n'
                     + wrap('The same `snn-repro reproduce` tries them again.', width))
    return printable('\n'.join(lines))


def _runs(out: Path) -> tuple[list[RunProgress], str]:
    """The runs of the plan in `out`, or of its folders where it has no plan that can be read; and
    what has to be said of that."""
    note, number = '', lambda v, kind=int: v if type(v) in (kind, int) and 0 <= v < 1e12 else None
    try:
        planned = {r.id: r.experiment for r in read_plan(out/PLAN)} if (out/PLAN).exists() else None
    except UserError as e:
        planned, note = None, f'{PLAN}: {e.what}, so these are the runs that have a folder.'
    if planned is None:
        with readable_errors(out): folders = sorted(p for p in out.iterdir() if p.is_dir())
        planned = {p.name: _read(p/'config.json') for p in folders
                   if any((p/n).exists() for n in (SEAL, LOCK, ERROR, 'checkpoint'))}
    def run(id, experiment):
        folder, recipe = out/id, experiment.get('recipe')
        epochs = number(recipe.get('epochs')) if isinstance(recipe, dict) else None
        if is_done(folder):
            return RunProgress(id, 'done', epochs or 0, epochs,
                               number(_read(folder/'env.json').get('seconds'), float))
        state = 'running' if held(folder) else 'failed' if (folder/ERROR).exists() else 'left'
        saved = max((_read(folder/f'checkpoint/{p}.json') for p in 'ab'),
                    key=lambda d: number(d.get('count')) or 0).get('state')
        saved = saved if isinstance(saved, dict) else {}
        return RunProgress(id, state, number(saved.get('epoch')) or 0, epochs,
                           number(saved.get('seconds'), float))
    return [run(*p) for p in planned.items()], note


def seconds_left(runs) -> float | None:
    """How long what is left will take, as many at a time as are running now. A run's epoch takes
    what it took in finished runs of its slug, or else in this run so far, or else in all finished
    runs; None where nothing is known."""
    mean = lambda values: sum(values)/len(values) if values else None
    done = [r for r in runs if r.state == 'done' and r.rate is not None]
    of = {s: mean([r.rate for r in done if r.slug == s]) for s in {r.slug for r in runs}}
    to_do = [(r, next((x for x in (of[r.slug], r.rate, mean([d.rate for d in done]))
                       if x is not None), None)) for r in runs if r.state in ('running', 'left')]
    if not all(rate is not None and r.epochs for r, rate in to_do): return None
    takes = [rate*max(0, r.epochs - r.epoch) for r, rate in to_do]
    return max([sum(takes)/max(1, sum(r.state == 'running' for r in runs)), *takes])


def _holder(lock: Path) -> tuple[str, str]:
    "Who holds a lock, and when it last gave a sign of life."
    by = _read(lock)
    job = f' (SLURM job {by["job"]})' if 'job' in by else ''
    try: ago = f'{span(max(0, time.time() - lock.stat().st_mtime))} ago'
    except OSError: ago = 'just ended'
    return f'{by.get("pid", "?")} on {by.get("host", "?")}{job}', ago


def _read(path: Path) -> dict:
    """The JSON object in a file; empty where there is none, since others write these files
    meanwhile."""
    try: found = read_json(path) if path.exists() else {}
    except UserError: found = {}
    return found if isinstance(found, dict) else {}


def compare_two(a, b, width: int = 100) -> str:
    """What differs between two finished runs, as text. Raises `UserError` for a folder that is not
    that of a finished, unchanged run."""
    from snn_repro.records.runs import open_run
    def opened(folder):
        check(Path(folder).is_dir(), 'there is no such folder', str(folder),
              'name the folder of a run')
        found = open_run(Path(folder).resolve())
        check(found, 'this is not a finished run', str(folder),
              'name the folder of a run that has a done.json')
        return found
    pair = [opened(f) for f in (a, b)]
    surroundings = [{k: v for k, v in r.env.items() if k not in ('seconds', 'date')} for r in pair]
    parts = [f'A: {a}\nB: {b}', differences('Setting', *(r.config for r in pair), width),
             differences('Environment', *surroundings, width),
             text_table(('Result', 'A', 'B', 'A - B'), list(_results(*pair)), width),
             _answers(*pair, width), _bytes(Path(a), Path(b), width)]
    return printable('\n\n'.join(parts))


def _results(a, b):
    "Lines of the table of results: what both records have."
    for name, key, factor, digits in (('top-1 %', 'top1', 100, 2), ('top-5 %', 'top5', 100, 2),
                                      ('AURC x 1000', 'aurc', 1000, 2), ('ECE %', 'ece', 100, 2)):
        if all(type(r.metrics.get(key)) is float for r in (a, b)):
            yield _line(name, factor*a.metrics[key], factor*b.metrics[key], digits)
    if all('train' in r.history and len(r.history) for r in (a, b)):
        yield _line('train accuracy %, last epoch',
                    *(100*r.history['train'].iloc[-1] for r in (a, b)), 2)
    yield _line('seconds', a.env['seconds'], b.env['seconds'], 1)


def _line(name, a, b, digits):
    return name, f'{a:.{digits}f}', f'{b:.{digits}f}', f'{a - b:+.{digits}f}'


def _answers(a, b, width: int) -> str:
    "On how many test images the two answer differently, and how often each alone is right."
    one, two = a.outcomes, b.outcomes
    known = (a.env.get('data', a) == b.env.get('data', b)
             or all(a.config[k] == b.config[k] for k in ('data', 'seed')))
    if not known or len(one['label']) != len(two['label']) or (one['label'] != two['label']).any():
        return wrap('Answers: not compared, for the two were tested on different images.', width)
    x, y = (o['prefix'][:, -1] for o in (one, two))
    right, also = x == one['label'], y == one['label']
    return wrap(f'Answers: they differ on {(x != y).sum()} of {len(x)} test images. Right: both on '
                f'{(right & also).sum()}, A alone on {(right & ~also).sum()}, B alone on '
                f'{(also & ~right).sum()}, neither on {(~right & ~also).sum()}.', width)


def _bytes(a: Path, b: Path, width: int) -> str:
    "Which of the files that a result consists of have the same bytes."
    one, two = (read_json(f/SEAL)['sha256'] for f in (a, b))
    names = [n for n in ('weights.safetensors', 'outputs.safetensors', 'history.csv')
             if n in one and n in two]
    same, other = ([n for n in names if (one[n] == two[n]) == wanted] for wanted in (True, False))
    said = [f'{", ".join(names)} {what}' for names, what in (
                (same, 'have the same bytes' if len(same) > 1 else 'has the same bytes'),
                (other, 'differ' if len(other) > 1 else 'differs')) if names]
    return wrap(f'Files: {"; ".join(said)}.', width)
