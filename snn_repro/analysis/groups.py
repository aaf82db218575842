"""Two groups of runs, paired by seed: what one setting gains over another.

All of it is read from records; nothing imports torch.
"""
from collections.abc import Iterable
from fnmatch import filter as matching
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import pandas as pd

from snn_repro.analysis.stats import (CONTRADICTED, NOT_REPRODUCED, REPRODUCED, TOO_LITTLE, Judged,
                                      between, by_seed, judge_at)
from snn_repro.analysis.tables import MEASURES
from snn_repro.core.spec import check, dotted
from snn_repro.core.text import differences, plural, printable, text_table, wrap
from snn_repro.records.runs import Record, Runs, open_run

GAP = 1.   # points of top-1: the smallest difference that the words care for
WORDS = {REPRODUCED: 'better', CONTRADICTED: 'worse', NOT_REPRODUCED: 'no difference',
         TOO_LITTLE: 'too little data'}
LEGEND = ('Better or worse: the interval leaves out zero. No difference: it contains zero and is '
          f'no wider than {GAP:g} point to either side. Too little data: it is wider; '
          'take more seeds.')
MEASURED = 'top1', 'first', 'aurc', 'ece'


class Groups(NamedTuple):
    """Two groups of runs: records `a` and `b`, in the order of the `seeds` that both have.
    Also the seeds that only one has, and for each measure the difference A - B under the rule, at
    an error of 5 % that is not corrected for the other measures."""
    a: list[Record]
    b: list[Record]
    seeds: list[int]
    left_out: list[int]
    effects: dict[str, Judged]


Given = Path | str | Runs | Iterable[Record]


def compare_runs(a: Given, b: Given) -> Groups:
    """The runs `a` and `b`, paired by seed.
    Each is a run's folder, a folder of runs, a pattern such as 'runs/mini/*-tks-*', `Runs`, or
    records: of one setting, a seed each. Raises `UserError` for none, for several settings, for a
    seed that comes twice, and where no seed is shared.

    >>> from dataclasses import replace
    >>> from snn_repro.data import Digits, NoAugment
    >>> e = Experiment(data=Digits(), arch=SmallVGG(channels=(4, 8)), T=2, objective=(CE(),),
    ...                augment=NoAugment(), recipe=Recipe(epochs=1))
    >>> a, b = ([fit(replace(e, objective=(term,), seed=seed), Path('runs')) for seed in (0, 1)]
    ...         for term in (TKS(), CE()))
    >>> compare_runs(a, b).effects['top1'].n   # pairs; .mean, .low and .high are points of top-1
    2
    """
    return paired_groups(records_of(a), records_of(b))


def paired_groups(a: list[Record], b: list[Record]) -> Groups:
    "The same for records."
    for side in (a, b): check_setting(side)
    x, y = ({r.seed: r for r in side} for side in (a, b))
    seeds = sorted(x.keys() & y.keys())
    check(seeds, f'no seed is on both sides: {sorted(x)} and {sorted(y)}', 'compare',
          'train both with the same seeds')
    one, two = [x[s] for s in seeds], [y[s] for s in seeds]
    def effect(m):
        p, q = by_seed(a, m), by_seed(b, m)
        return judge_at([p[s] - q[s] for s in seeds], GAP, .05)
    return Groups(one, two, seeds, sorted(x.keys() ^ y.keys()),
                  {k: effect(MEASURES[k]) for k in MEASURED})


# Which runs

def records_of(given: Given) -> list[Record]:
    "The finished runs that `given` names (see `compare_runs`). Raises `UserError` for none."
    if isinstance(given, Iterable) and not isinstance(given, str): found = list(given)
    elif (path := Path(given)).is_dir():
        found = [open_run(path.resolve())] if is_run(path) else list(Runs(path))
    else:
        check(path.parent.is_dir(), 'there is no such folder', str(given),
              'name a folder of runs, or a pattern in quotes')
        runs = Runs(path.parent)
        found = [runs.find(id) for id in matching(runs.ids, path.name)]
        check(found, 'no run has such a name', str(given),
              'name a folder of runs, or a pattern in quotes such as "runs/mini/*-tks-*"')
    found = [r for r in found if r]
    check(found, 'this is not a finished run, nor a folder that has one', str(given),
          'name runs that have a done.json')
    return found


def is_run(path) -> bool: return (Path(path)/'config.json').exists()


def by_setting(records: Iterable[Record]) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    for r in records: found.setdefault(r.setting, []).append(r)
    return found


def check_setting(side: list[Record]):
    "Raise `UserError` unless the records are of one setting."
    found = by_setting(side)
    check(len(found) == 1, f'one side has runs of {settings_found(found)}', 'compare', PICK)


PICK = 'name the runs of one by the end of their names, such as "runs/mini/*-0123456789"'

def settings_found(found: dict[str, list], most: int = 3) -> str:
    "How many settings were found, the first of them, and in what they differ."
    configs = [dotted(rs[0].config) for rs in found.values()]
    keys = dict.fromkeys(k for c in configs for k in c if k != 'seed')
    differ = [k for k in keys if any(c.get(k) != configs[0].get(k) for c in configs)]
    def first(said): return ', '.join(said[:most]) + ', …'*(len(said) > most)
    names = first([f'{name} ({len(rs)})' for name, rs in found.items()])
    return f'{len(found)} settings: {names}; they differ in {first(differ)}'


def sides(words: list) -> tuple[list[Record], list[Record]]:
    """The two groups that the words of a command name: one word a side, or else all runs of all
    words, which belong together if they differ by seed only."""
    if len(words) == 2: return records_of(words[0]), records_of(words[1])
    found = by_setting(r for w in words for r in records_of(w))
    check(len(found) == 2, f'two settings are compared, not {settings_found(found)}', 'compare',
          'put a pattern for each side in quotes')
    a, b = found.values()
    return a, b


# In a terminal

def compare_text(words: list, width: int = 100) -> str:
    """What differs between the two groups that `words` name, and what came of it.
    Raises `UserError` as `compare_runs` does."""
    g = paired_groups(*sides(words))
    config, env = ([of(side) for side in (g.a, g.b)] for of in (_config, _env))
    parts = ['\n'.join(wrap(f'{name}: {rs[0].setting}', width)
                       for name, rs in zip('AB', (g.a, g.b))),
             differences('Setting', *config, width), differences('Environment', *env, width),
             text_table(('Result', 'A', 'B', 'A - B', '95 % interval', 'P(A better)'),
                        [_line(g, k) for k in MEASURED], width),
             '\n'.join(wrap(text, width) for text in _said(g))]
    return printable('\n\n'.join(parts))


def _config(side: list[Record]) -> dict:
    return {k: v for k, v in side[0].config.items() if k != 'seed'}


def _env(side: list[Record]) -> dict:
    "The different values of each entry of the records' environments, as text."
    envs = [dotted({k: v for k, v in r.env.items()
                    if k not in ('seconds', 'date', 'data', 'teacher')}) for r in side]
    return {k: ', '.join(dict.fromkeys(str(e.get(k, '–')) for e in envs))
            for k in dict.fromkeys(k for e in envs for k in e)}


def _line(g: Groups, key: str) -> tuple[str, ...]:
    m, j = MEASURES[key], g.effects[key]
    better = j.above if m.more else 1 - j.above
    return (m.title, *(f'{mean(map(m, side)):.2f}' for side in (g.a, g.b)), f'{j.mean:+.2f}',
            between(j.low, j.high, '+.2f'), f'{better:.2f}')


def _said(g: Groups):
    "The sentences below the numbers."
    top, n = g.effects['top1'], len(g.seeds)
    told = f', power for {GAP:g} point {top.power:.2f}' if pd.notna(top.power) else ''
    yield (f'{plural(n, "paired seed")}: {", ".join(map(str, g.seeds))}. A in a word, by '
           f'top-1: {WORDS[top.verdict]}{told}.')
    if g.left_out:
        yield f'Left out, since one side alone has them: seeds {", ".join(map(str, g.left_out))}.'
    other = sum(a.env.get('data') != b.env.get('data') for a, b in zip(g.a, g.b))
    if other: yield f'In {other} of {n} pairs the two saw other data: they share the seed alone.'
    yield LEGEND + ' The intervals are not corrected for the number of measures.'
