"""Two sets of runs beside each other, for people.

What differs, whether a build looks broken, and where either set was made. All of it is read from
records; nothing imports torch.
"""
from html import escape
from typing import NamedTuple

from snn_repro.analysis.early_losses import alarms, early
from snn_repro.analysis.replication import (Replication, outcome_lines, replication,
                                            replication_table)
from snn_repro.core.text import plural
from snn_repro.records.ledger import ledger_beside, read_ledger, run_of, standing
from snn_repro.records.runs import Runs

FEW = 6   # lines of one kind in a terminal; the page has them all


class Compared(NamedTuple):
    """The runs `here` against those `there`: their names, and what was found.
    Also the alarms, and what their surroundings are."""
    here: str
    there: str
    found: Replication
    alarms: list
    made: list


def compare_sets(exhibits, tier, here: tuple, there: tuple) -> Compared:
    "Two `(name, runs)` compared, for what both have of `exhibits` in `tier`."
    found = replication(exhibits, tier, here[1], there[1])
    sides = list(zip(*found.pairs)) or [(), ()]
    made = [f'{side}, {name}: {made_on(runs, records)}.'
            for side, (name, runs), records in zip(('Here', 'There'), (here, there), sides)
            if records]
    made += other_versions(*sides)
    return Compared(here[0], there[0], found, alarms(early(found.pairs)), made)


# Where runs were made

def dates(runs: Runs, records) -> list[str]:
    """The days on which `records` were made.
    As they say, or else as the ledger beside a packed folder does; an empty text where neither
    does."""
    asked = getattr(runs, 'packed', False) and any('date' not in r.env for r in records)
    path = ledger_beside(runs.path) if asked else None
    entered = standing(read_ledger(path)) if path and path.exists() else {}
    return [str(r.env['date']) if 'date' in r.env else getattr(entered.get(run_of(r)), 'date', '')
            for r in records]


def days_text(days) -> str:
    known = sorted({d for d in days if d})
    if len(known) > 1: return f'{known[0]} to {known[-1]}'
    return known[0] if known else 'a day not recorded'


def distinct(values, most: int = 3) -> str:
    "Distinct values, the most frequent first, and how many more there are."
    values = [str(v) for v in values]
    distinct = sorted(set(values), key=lambda v: (-values.count(v), v))
    more = f' and {len(distinct) - most} more' if len(distinct) > most else ''
    return ', '.join(distinct[:most]) + more


def processor(r) -> str:
    """The processor of a record, and the instructions that torch and oneDNN may use.
    Also cores, GPU and device."""
    h = r.env['hardware']
    onednn = h.get('onednn') and f'oneDNN up to {h["onednn"]}'
    instructions = ', '.join(filter(None, (h.get('instructions'), onednn)))
    words = (h['cpu'] + (f' with {instructions}' if instructions else ''),
             f'{h["cores"]} cores', h.get('gpu'), r.env['device'])
    return ', '.join(filter(None, words))


def commit(r) -> str:
    "The commit of the library that made a record."
    return (r.env.get('commit') or 'not known') + (', changed' if r.env.get('dirty') else '')


def made_on(runs: Runs, records) -> str:
    "On which processors, with which versions and commits, and when `records` were made."
    versions = distinct(f'snn-repro {v["snn-repro"]}, torch {v["torch"]}'
                        for r in records for v in [r.env['versions']])
    return (f'{distinct(map(processor, records))}; {versions}; '
            f'commit {distinct(map(commit, records))}; {days_text(dates(runs, records))}')


def other_versions(here, there) -> list[str]:
    "A line where the two sets were made with other versions of anything."
    names = dict.fromkeys(k for r in (*here, *there) for k in r.env['versions'])
    told = [[distinct(r.env['versions'].get(k, 'none') for r in side) for side in (here, there)]
            for k in names]
    other = [f'{k} {x} here, {y} there' for k, (x, y) in zip(names, told) if x != y]
    data = sum(x.env.get('data') != y.env.get('data') for x, y in zip(here, there))
    return [*([f'Other versions: {"; ".join(other)}.'] if other else []),
            *([f'{plural(data, "run")} saw other data than there.'] if data else [])]


# In a terminal, and on the page

QUIET = 'Early losses: as there, within the tolerances of chapter 7.12.'


def terminal_lines(c: Compared) -> list[str]:
    """At most a screen of lines: alarms first.
    Of what there are many only the first, and how many more."""
    said, quiet = outcome_lines(c.found), [] if c.alarms or not c.found.pairs else [QUIET]
    return [*first(map(alarm, c.alarms)), *c.made,
            *(l for lines in said.values() for l in first(lines)), *quiet]


def in_short(c: Compared) -> str: return ' '.join(outcome_lines(c.found)['counts'])


def alarm(said: str) -> str: return f'ALARM, this looks like another build: {said}.'


def first(lines) -> list[str]:
    lines = list(lines)
    if len(lines) <= FEW: return lines
    return [*lines[:FEW - 1], f'… and {len(lines) - FEW + 1} more: see the page']


def page_section(c: Compared, table) -> str:
    "The HTML of a comparison; `table` turns a DataFrame into HTML."
    def items(lines, bold=False):
        mark = '<li><b>{}</b></li>' if bold else '<li>{}</li>'
        return ''.join(mark.format(escape(l)) for l in lines)
    said = outcome_lines(c.found, (f'in {c.here}', f'in {c.there}'))
    quiet = [] if c.alarms or not c.found.pairs else [QUIET]
    points = items(map(alarm, c.alarms), bold=True)
    points += ''.join(items(lines, bold=k == 'differs') for k, lines in said.items())
    points += items(quiet)
    effects = replication_table(c.found, (c.here, c.there))
    details = ''
    if len(effects):
        details = (f'<details><summary>{plural(len(effects), "effect")}</summary>'
                   f'{table(effects)}</details>')
    return (f'<ul>{points}</ul>'
            '<p class="source">Paired by seed. Differs: beyond chance, Holm over all effects. '
            "Agrees: the 95 % interval of the difference lies within the claim's gap.</p>"
            f'<ul class="source">{items(c.made)}</ul>{details}')
