"""Whether the evidence holds: every hash, every number recomputed from the outcomes, teachers,
pairs of seeds, and the ledger.

A fault ends nothing here: all of them are told, a line each. Nothing imports torch.
"""
import json, math, sys
from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

from numpy import isfinite

from snn_repro.analysis.catalogue import Run, contents, first_run
from snn_repro.core.files import SEAL, read_json, readable
from snn_repro.core.spec import UserError, check, shown
from snn_repro.core.text import plural, text_table, wrap
from snn_repro.metrics.classification import ordered, spaced, summary
from snn_repro.records.ledger import hours, ledger_beside, read_ledger, run_of, standing
from snn_repro.records.runs import ORDERS, OUTCOMES, RECORDS, Runs, check_kinds, unsqueezed

EXACT = 1e-12   # another processor may take a sum in another order, and no more
BENCH = {'hardware': dict, 'versions': dict, 'threads': int, 'device': str, 'date': str,
         'rows': list}
ROW = {'id': str, 'against': str, 'ratio': float, 'low': float, 'high': float, 'ours': float,
       'theirs': float, 'unit': str, 'repeats': int, 'note': str}
SPRINT = {'goal': float, 'n': int, 'holds': bool, 'top1': {'mean': float},
          'seconds': {'mean': float}, 'hardware': dict, 'versions': dict, 'threads': int,
          'device': str, 'runs': list}
LAP = {'id': str, 'seed': int, 'top1': float, 'seconds': float}


@dataclass
class Looked:
    """What was looked at in a packed folder, a folder of run folders, or a file of timings: its
    records, and what is `wrong`, as pairs (where, what)."""
    path: Path
    records: list = field(default_factory=list)
    packed: bool = False
    numbers: int = 0
    others: set = field(default_factory=set)
    wrong: list = field(default_factory=list)

    def tell(self, where, what: str): self.wrong.append((str(where), what))


def verify(root, width: int = 100):
    """Print what was looked at under `root`, one line for each fault (to stderr), and the hours
    that the ledger tells of. Raises `UserError` if anything is wrong, or nothing is there."""
    root = Path(root)
    check(root.is_dir(), 'there is no such folder', str(root),
          'name a folder of packed records, or of runs')
    looked = [_opened(f) for f in _folders(root)]
    ids = {r.id for l in looked for r in l.records}
    for l in looked: _look(l, ids)
    ledgers = _ledgers(root, looked)
    looked += [_timings(f) for f in sorted((root/'bench').glob('*.json'))]
    check(looked, 'there are no runs in this folder', str(root),
          'name a folder of packed records, or of runs')
    print(verified_page(looked, ledgers, width))
    faults = [str(UserError(what, where)) for l in looked for where, what in l.wrong]
    for f in faults: print(f'wrong: {f}', file=sys.stderr)
    check(not faults, f'{plural(len(faults), "thing")} wrong', str(root))


def verified_page(looked, ledgers: dict, width: int) -> str:
    "What was looked at, what could not be recomputed, and the hours of each tier and purpose."
    rows = [(l.path, len(l.records) or '–', l.numbers or '–', len(l.wrong) or 'nothing')
            for l in looked]
    parts = [text_table(('folder', 'runs', 'numbers recomputed', 'wrong'), rows, width)]
    if others := sorted(set().union(*(l.others for l in looked))):
        parts.append(wrap('Not recomputed, since it takes more than the outcomes: '
                          f'{", ".join(others)}.', width))
    spent = [(tier, purpose, n, f'{h:.2f}') for lines in ledgers.values()
             for (tier, purpose), (n, h) in hours(lines).items()]
    if spent: parts.append(text_table(('tier', 'purpose', 'runs', 'hours'), spent, width))
    return ''.join(c if c.isprintable() or c == '\n' else '?' for c in '\n\n'.join(parts))


# Which folders there are

def _folders(root: Path) -> list[Path]:
    "Packed folders, and folders of run folders, `root` included."
    packed = {p.parent for n in (RECORDS, OUTCOMES) for p in root.rglob(n)}
    runs = {p.parent.parent for p in root.rglob(SEAL) if p.parent not in packed}
    return sorted(packed | runs)


def _opened(path: Path) -> Looked:
    """The records of a folder whose hashes and plain data are right; of each run the seeds and
    names are told apart."""
    l = Looked(path)
    try:
        runs = Runs(path)
        l.packed = runs.packed
        if runs.packed: names = [json.loads(n)['id'] for n in unsqueezed(path/RECORDS).splitlines()]
        else: names = sorted(p.parent.name for p in path.glob(f'*/{SEAL}'))
    except UserError as e:
        l.tell(e.where, e.what)
        return l
    for name in dict.fromkeys(names):
        try: l.records.append(runs.find(name))
        except UserError as e: l.tell(e.where, e.what)
    for (*_, seed, key), n in Counter(('', *name.split('-')[-2:]) for name in names).items():
        if n > 1:
            l.tell(path, f'{n} runs of the setting {shown(key)} with the seed {shown(seed[1:])}')
    return l


def _look(l: Looked, ids: set):
    """What is wrong with the records of a folder, each alone and beside each other. `ids`: those of
    all runs that were found."""
    sound = []
    for r in l.records:
        file = l.path/RECORDS if l.packed else l.path/r.id/'config.json'
        try:
            with readable(file):
                for what in chain(_name(r), _history(r), _teacher(r, ids), _outcomes(l, r),
                                  _weights(l, r)):
                    l.tell(l.path/r.id, what)
                sound.append((r, json.dumps([r.config['data'], r.config.get('T'), r.seed])))
        except UserError as e: l.tell(l.path/r.id, e.what)
    _pairs(l, sound)


def _pairs(l: Looked, sound):
    "One teacher of a name, and one set of data for all runs of a seed."
    taught, seen = {}, {}
    for r, data in sound:
        if told := r.env.get('teacher'):
            taught.setdefault(told['id'], set()).add(shown(told.get('weights')))
        seen.setdefault(data, {}).setdefault(shown(r.env.get('data')), r.id)
    for id, weights in taught.items():
        if len(weights) > 1:
            l.tell(l.path, f'students of {shown(id)} name {len(weights)} different weights of it')
    for first, *others in map(dict.values, seen.values()):
        for id in others:
            l.tell(l.path/id, f'saw other data than {shown(first)}, which has the same setting of '
                   'data and seed')


# What is wrong with one record

def _name(r):
    run = Run.from_dict(r.config)
    if not r.id.endswith(f'-s{run.seed}-{run.key}'):
        yield f'its setting is another than its name says: seed {shown(run.seed)}, {run.key}'


def _history(r):
    h, epochs = r.history, r.config['recipe']['epochs']
    if h['epoch'].tolist() != list(range(len(h))) or len(h) != epochs:
        yield f'its history has not the epochs 0 to {shown(epochs - 1)}'
    tested = h['test'].dropna()
    if not len(tested) or f'{tested.iloc[-1]:.9g}' != f'{r.metrics["top1"]:.9g}':
        yield (f'top1 is {r.metrics["top1"]}, the last test of its history '
               f'{tested.iloc[-1] if len(tested) else "missing"}')


def _teacher(r, ids):
    told = r.env.get('teacher', {}).get('id')
    if told and told not in ids: yield f'its teacher {shown(told)} is missing'
    *slug, _, key = r.id.split('-')
    if (first := '-'.join([*slug, 's0', key])) not in contents()['runs']: return
    asked = replace(first_run(first), seed=r.seed).teacher
    if told != (asked and asked.id):
        yield f'its teacher is {shown(told)}, that of its setting {asked and asked.id}'


def _outcomes(l: Looked, r):
    o, features = r.load('outcomes'), r.load('features')   # read, and not kept with the record
    yield from _answers(o, r.config.get('T'))
    if features is not None and len(features) != len(spaced(len(o['label']))):
        yield f'features of {len(features)} of {len(o["label"])} images'
    numbers = summary(o)
    found, said = _flat(numbers), _flat(r.metrics)
    l.numbers += len(found)
    l.others |= r.metrics.keys() - numbers.keys()
    for k in found.keys() | {k for k in said if k.split()[0] in ('prefix', 'step')}:
        if not (k in found and type(said.get(k)) is float and abs(said[k] - found[k]) <= EXACT):
            yield (
                f'{k} is {shown(said.get(k, "missing"))}, its outcomes give {found.get(k, "none")}')


def _weights(l: Looked, r):
    file = l.path/r.id/'weights.safetensors'
    if l.packed or not file.exists(): return
    from safetensors import safe_open
    with readable(file), safe_open(file, 'numpy') as f:
        for k in f.keys():
            if not isfinite(f.get_tensor(k)).all():
                yield f'its weights are not all finite: {shown(k)}'


def _answers(o, T):
    "Where the arrays of outcomes say different things."
    right, first = o['prefix'][:, -1] == o['label'], o['rank'] == 0
    if n := int((first & ~right).sum()): yield f'rank and answer do not fit on {n} images'
    if n := int((o['step'][:, 0] != o['prefix'][:, 0]).sum()):
        yield f'the first step and the prefix of one step differ on {n} images'
    if o['step'].shape[1] != T: yield f'{o["step"].shape[1]} steps, its setting has {shown(T)}'
    yield from _orders(o, right) if 'calibration' in o else _scores(o, right & ~first)


def _orders(o, right):
    """In condensed outcomes, either order has as many wrong answers as there are.
    And the bins' mean confidence is one."""
    for k in ORDERS:
        if (n := int(ordered(o, k)[0].sum())) != (m := int((~right).sum())):
            yield f'{k} has {n} wrong answers, the images {m}'
    sure = (o['calibration'].sum() + right.sum())/len(right)
    if not 0 < sure <= 1 + 1e-6: yield f'the mean confidence would be {sure:.3g}'


def _scores(o, shared):
    """Where a label of a higher rank is the answer, it shares its place, and so the softmax.
    And `sure` is the softmax."""
    apart = shared & (o['max_softmax']*(o['rank'] + 1.) > 1 + 1e-6)
    if n := int(apart.sum()): yield f'rank and answer do not fit on {n} images'
    if n := int(((o['max_softmax'] <= 0) | (o['max_softmax'] > 1 + 1e-6)).sum()):
        yield f'max_softmax is no probability on {n} images'
    sure = o['sure'][:, -1] if 'sure' in o else 255*o['max_softmax']
    if n := int((abs(sure - 255.*o['max_softmax']) > 1 + 1e-4).sum()):
        yield f'sure and max_softmax differ on {n} images'


def _flat(metrics: dict) -> dict:
    "A list's numbers by name and place."
    lists = {k: v for k, v in metrics.items() if isinstance(v, list)}
    return ({k: v for k, v in metrics.items() if k not in lists}
            | {f'{k} {t}': v for k, values in lists.items() for t, v in enumerate(values, 1)})


# The ledger, and the timings

def _ledgers(root: Path, looked) -> dict:
    """The lines of each ledger beside a packed folder. Tells of runs that one lacks, and of final
    ones that no folder holds, where all were looked at."""
    ledgers = {}
    for l in looked:
        if not l.packed: continue
        path = ledger_beside(l.path)
        if path not in ledgers:
            try: ledgers[path] = read_ledger(path)
            except UserError as e:
                ledgers[path] = None
                l.tell(e.where, e.what)
                continue
        if ledgers[path] is None: continue
        listed = standing(ledgers[path])
        for r in l.records:
            if (run := run_of(r)) not in listed: l.tell(l.path/r.id, f'not in {path}')
            elif listed[run].purpose == 'discarded': l.tell(l.path/r.id, f'discarded, says {path}')
    ledgers = {path: lines for path, lines in ledgers.items() if lines is not None}
    for path, lines in ledgers.items():
        if not path.is_relative_to(root): continue
        beside = [l for l in looked if l.packed and ledger_beside(l.path) == path]
        held = {run_of(r) for l in beside for r in l.records}
        for line in standing(lines).values():
            if line.purpose != 'final' or line.run in held: continue
            beside[-1].tell(path, f'{shown(line.id)} of commit {shown(line.commit)} is final, and '
                            'in no packed folder')
    return ledgers


def _timings(file: Path) -> Looked:
    l = Looked(file)
    try:
        found = read_json(file)
        sprint = isinstance(found, dict) and 'goal' in found
        check_kinds(found, SPRINT if sprint else BENCH, str(file))
        check(isinstance(found.get('commit'), (str, type(None))),
              f'the commit is {shown(found.get("commit"))}', str(file))
        for n, row in enumerate(found['runs' if sprint else 'rows']):
            check_kinds(row, LAP if sprint else ROW, f'{file}, row {n}')
        if sprint: _check_sprint(found, str(file))
    except UserError as e: l.tell(e.where, e.what)
    return l


def _check_sprint(found: dict, where: str):
    runs = found['runs']
    check(runs and found['n'] == len(runs) == len({r['seed'] for r in runs}),
          f'{found["n"]} runs, and {len(runs)} lines of distinct seeds', where)
    for k in ('top1', 'seconds'):
        mean = sum(r[k] for r in runs)/len(runs)
        check(math.isclose(found[k]['mean'], mean, rel_tol=EXACT),
              f'the mean of {k} is {mean}', where)
    holds = len(runs) >= 5 and found['top1']['mean'] >= found['goal']
    check(found['holds'] == holds, f'whether the claim holds is {holds}', where)
