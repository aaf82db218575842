"""One page that opens from disk: how two sets of runs compare, at a glance, the claims, then every
table and figure with its tier, seeds and runs; and in a terminal one screen of it, or all tables.

All of it is read from records and the catalogue; a notebook's `redraw` alone imports torch, for the
experiments of its rows.
"""
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from snn_repro.analysis.catalogue import Exhibit, fill, in_tier, listed, plan
from snn_repro.analysis.claims import (CLAIMS, MIXED, NOT_TRIED, claim_lines, judge_claims,
                                       verdict_lines, verdicts)
from snn_repro.analysis.comparison import (commit, compare_sets, dates, distinct, made_on,
                                           processor, days_text, terminal_lines)
from snn_repro.analysis.markup import Table
from snn_repro.analysis.page import (claim_section, is_table, runs_section, section, side_by_side,
                                     side_by_side_verdicts, whole_page)
from snn_repro.analysis.stats import VERDICTS
from snn_repro.analysis.tables import to_text
from snn_repro.core.files import make_folder, write
from snn_repro.core.spec import check
from snn_repro.core.text import plural, wrap
from snn_repro.experiments.tiers import Tier, find_tier
from snn_repro.records.runs import Runs, packed_folders, results

def folders_of(runs, tier: Tier) -> list[Path]:
    """The folders of runs to read: those named, or `runs/TIER`, or else the committed
    `results/TIER`. Raises `UserError` for one that is not there, holds no run, or is named
    twice."""
    own, committed = Path('runs')/tier.name, Path('results')/tier.name
    found = list(runs or [own if own.is_dir() or not committed.is_dir() else committed])
    for p in found:
        ours = p.parts[:1] == ('results',)
        check(p.is_dir(), 'there is no such folder of runs', str(p),
              'our records come with a clone' if ours else
              'make it: `snn-repro reproduce`, or name one with --runs')
        held = packed_folders(p) or (p/'plan.jsonl').exists() or any(p.glob('*/config.json'))
        check(held, 'there is no run in this folder', str(p),
              'name a folder of runs, or a packed one, with --runs')
    check(len({p.resolve() for p in found}) == len(found), 'a folder is named twice', '--runs',
          'name each once')
    return found


def ours(tier: Tier) -> Path | None:
    """The committed runs of a tier: of the folder one is in, or else of the clone that the library
    runs from; None where there are none."""
    return path if packed_folders(path := results(tier.name)) else None


def write_report(exhibits, tier: Tier, folders, folder, width: int = 100, tables: bool = False,
                 against_ours: bool = False) -> Path:
    """Write `folder/index.html` from nothing but the records under `folders`, which stand side by
    side where there are several, and then print a screen of what it says, before it all `tables` of
    `exhibits` if they are asked for. A first folder is compared with each further one, or
    `against_ours`, the committed runs. Returns the page's path."""
    sources = {str(f): Runs(f) for f in folders}
    wanted, text = plan(listed(exhibits), tier), []
    claims = [c for c in CLAIMS if c.exhibit in {x.id for x in exhibits}]
    said, sections = {}, []
    if claims:
        judged = {name: judge_claims(tier, runs, claims) for name, runs in sources.items()}
        said = {name: verdict_lines(found, tier) for name, found in judged.items()}
        sections.append(claims_in_all(judged, said, tier))
        if tables: text.append(
            'claims: what the runs say of each\n\n'
            f'{to_text(side_by_side_verdicts(said).drop(columns=["paper", "where"]), width)}')
    shown, of_others = by_tier(exhibits, tier)
    filled = {x.id: {name: fill(x, tier, runs) for name, runs in sources.items()} for x in shown}
    for exhibit in shown:
        drawn = {name: exhibit.draw(f, tier.name) for name, f in filled[exhibit.id].items()}
        if tables and is_table(drawn):
            text.append(f'{exhibit.id}: {exhibit.title}\n\n{to_text(side_by_side(drawn), width)}')
        sections.append(section(exhibit, filled[exhibit.id], drawn, tier, folder))
    glance = summed_up(exhibits, [(tier, runs) for runs in sources.values()], list(said.values()))
    compared, missing = beside(exhibits, tier, sources, against_ours)
    missing = ' '.join(filter(None, [missing, of_others]))
    ids = ['claims']*bool(claims) + [e.id for e in shown]
    made = {name: made_on(runs, found) if (found := [r for e in wanted if (r := runs.get(e))])
            else 'no run' for name, runs in sources.items()}
    page = whole_page(tier, made, [*ids, 'glance', 'runs'], compared, missing, glance,
                      [*sections, runs_section(filled)])
    path = make_folder(folder)/'index.html'
    write(path, page)
    empty = [f'{name} holds none of the runs that are asked for in tier {tier.name}.'
             for name, runs in sources.items() if not any(runs.get(e) for e in wanted)]
    text.append(screen(glance, compared, [*empty, *filter(None, [missing])], width))
    for part in [*text, f'Report: {path}']: print(f'\n{part}')
    return path


def by_tier(exhibits, tier: Tier) -> tuple[list, str]:
    """Those that have a row in `tier`, or all where none has; and a line that names the others."""
    here = {x.id for x in in_tier(listed(exhibits), tier)}
    others = [x.id for x in exhibits if x.id not in here]
    if not here or not others: return list(exhibits), ''
    return ([x for x in exhibits if x.id in here],
            f'Without a row in tier {tier.name}, and left out: {", ".join(others)}.')


def claims_in_all(judged: dict, said: dict, tier: Tier) -> str:
    "The HTML of the claims as `judged` in each folder, with a picture wherever one was tried."
    from snn_repro.analysis.forest import claims_forest
    drawings = {name: [claims_forest(found, tier, narrow) for narrow in (False, True)]
                for name, found in judged.items() if any(s.found for s in found)}
    lines = {name: claim_lines(found, tier) for name, found in judged.items()}
    return claim_section(said, lines, drawings, tier)


def beside(exhibits, tier: Tier, sources: dict, against_ours: bool) -> tuple[list, str]:
    """The comparisons that a report asks for, and a line where ours were asked for and are not
    there."""
    (first, runs), *others = sources.items()
    if against_ours:
        committed = ours(tier)
        if committed is None:
            return ([], 'Not compared with our runs: they come with the clone, in '
                    f'results/{tier.name}, and are not here.')
        if committed.resolve() != Path(first).resolve():
            others.append((str(committed), Runs(committed)))
    return [compare_sets(exhibits, tier, (first, runs), other) for other in others], ''


def screen(glance: pd.DataFrame, compared, remarks, width: int) -> str:
    "What ran, what the claims came to, and what differs, for the end of a terminal."
    lines = []
    for name, told in glance.iloc[:, :-1].items():
        lines += [f'{name}: {told["runs"]}; seeds {told["seeds"]}; {told["computing time"]}.',
                  *(f'{k}: {v}.' for k, v in told.items() if k.startswith('claims, '))]
    blocks = [remarks, lines, *([f'{c.here} compared with {c.there}:', *terminal_lines(c)]
                                for c in compared)]
    return '\n\n'.join('\n'.join(wrap(l, width) for l in block) for block in blocks if block)


class Shown(NamedTuple):
    """An exhibit as a notebook shows it: what it is, its filled rows, and the table or figure drawn
    from them."""
    exhibit: Exhibit
    filled: list
    drawn: object

    @property
    def by_method(self) -> dict:
        """Method -> its runs, of an exhibit or a part of one that has a row a method; rows without
        runs are left out."""
        return {row.labels['method']: runs for row, runs in self.filled if runs}


def redraw(id: str, tier: str = 'mini', records=None, rerun: bool = False) -> Shown:
    """The table or figure `id` from the records in the folder `records`, or from the committed
    ones. With `rerun` what is missing is trained into `runs/<tier>` and drawn from there. Raises
    `UserError` for an unknown id or tier, or a folder that was changed."""
    from snn_repro.analysis import exhibits
    (exhibit,), tier = exhibits.find_exhibits([id]), find_tier(tier)
    records = records or results(tier.name)
    if rerun:
        from snn_repro.training.launch import launch
        records = results().parent/'runs'/tier.name
        failures = launch(plan([exhibit], tier), records)
        check(not failures, '; '.join(f'{f.id}: {f.reason}' for f in failures), id)
    filled = fill(exhibit, tier, Runs(records))
    return Shown(exhibit, filled, exhibit.draw(filled, tier.name))


def at_a_glance(exhibits, sources) -> pd.DataFrame:
    """Scope, seeds, hardware, computing time and outcome: one column for each `(tier, runs)` of
    `sources`, and what the papers' full runs take. The outcome counts the verdicts of the claims
    that look at these `exhibits`."""
    claims = [c for c in CLAIMS if c.exhibit in {x.id for x in exhibits}]
    said = [verdicts(tier, runs, claims) for tier, runs in sources] if claims else []
    return summed_up(exhibits, sources, said)


def summed_up(exhibits, sources, said: list[pd.DataFrame]) -> pd.DataFrame:
    "`at_a_glance` with the verdicts of each source."
    known, several = listed(exhibits), len({tier.name for tier, _ in sources}) < len(sources)
    columns = {}
    for i, (tier, runs) in enumerate(sources):
        planned, here = plan(known, tier), in_tier(known, tier)
        scope = {'scope': ', '.join(plural(n, what)
                                    for what, n in parts_of(here, said).items())}
        records = [r for e in planned if (r := runs.get(e))]
        head = f'here ({tier.name}, {runs.path})' if several else f'here ({tier.name})'
        columns[head] = scope | {'tier': f'{tier.name}: {tier.about}'} | effort(
            records, len(planned), dates(runs, records)) | (outcome(said[i]) if said else {})
    return Table(columns | {"the papers' full runs": full_effort(known)}).fillna('–')


def parts_of(exhibits, said) -> dict:
    tables = sum(x.draw.kind == 'table' for x in exhibits)
    found = {'table': tables, 'figure': len(exhibits) - tables}
    return found | ({'claim': len(said[0])} if said else {})


def effort(records, planned: int, days=()) -> dict:
    """What the `records` took: their number, of how many `planned`, seeds, epochs, steps, time,
    hardware and software, commit and `days`, in words."""
    seconds = sum(r.env['seconds'] for r in records)
    version = sorted(
        {f'snn-repro {r.env["versions"]["snn-repro"]}, torch {r.env["versions"]["torch"]}, Python '
         f'{r.env["versions"]["python"]}' for r in records})
    one_core = all(r.env['device'] == 'cpu' and r.env.get('threads') == 1 for r in records)
    return {'runs': f'{len(records)} of {planned} planned, teachers included',
            'seeds': f'{spans(r.seed for r in records)}, paired' if records else 'none',
            'epochs a run': numbers(r.config['recipe']['epochs'] for r in records),
            'epochs come from': 'us',
            'steps T of a net': numbers(r.config.get('T', '?') for r in records),
            'computing time': f'{duration(seconds)} {"of one core " if one_core else ""}in all, '
            f'{duration(seconds/max(len(records), 1))} a run',
            'hardware': '; '.join(sorted(set(map(processor, records)))),
            'software': '; '.join(version),
            'commit': distinct(map(commit, records)), 'made on': days_text(days)}


PUBLIC = ("600: the default of TKS's public code, its paper gives none; 400 (ImageNet: 320): "
          "public code of EnOF's group, the paper was not to be had")


def full_effort(known) -> dict:
    "What the papers' own runs of exhibits of the catalogue take, in the words of `effort`."
    paper = find_tier('paper')
    full = plan(known, paper)
    steps = (int(re.search(r'-t(\d+)-', run.slug + '-')[1]) for run in full)
    return {'scope': 'the same', 'tier': paper.about,
            'runs': f'{len(full)}, teachers included, for one seed',
            'seeds': 'one, as far as the papers tell',
            'epochs a run': numbers(run.epochs for run in full), 'epochs come from': PUBLIC,
            'steps T of a net': numbers(steps),
            'computing time': "hours to days of a GPU a run: TET's author names about 5 hours on "
            "four RTX 3090 for one ResNet-19 on CIFAR. "
            'Of all of it: not known; `snn-repro plan` times it on a given machine',
            'hardware': 'GPUs',
            'software': "the official TKS code; for EnOF the first author's public MPBN code"}


def numbers(values) -> str:
    return ', '.join(sorted(set(map(str, values)), key=lambda v: (len(v), v)))


def spans(seeds) -> str:
    "Whole numbers as people name them: '0 to 4, 200 to 207'."
    seen = sorted(set(seeds))
    first = [s for s in seen if s - 1 not in seen]
    last = [s for s in seen if s + 1 not in seen]
    return ', '.join(f'{a} to {b}' if a < b else f'{a}' for a, b in zip(first, last))


def duration(seconds: float) -> str:
    if seconds < 120: return f'{seconds:.1f} s'
    return f'{seconds/60:.0f} minutes' if seconds < 7200 else f'{seconds/3600:.1f} hours'


def outcome(said: pd.DataFrame) -> dict:
    "The verdicts of `claims.verdicts`, counted for each paper."
    words = [*(f'{partly}{v}' for v in VERDICTS for partly in ('', 'partly ')), MIXED, NOT_TRIED]
    def word(text): return re.split(r' in | \(', text)[0]
    def counts(texts):
        found = Counter(map(word, texts))
        return ', '.join(f'{found[w]} {w}' for w in words if found[w])
    return {f'claims, {paper}': counts(group.iloc[:, -1])
            for paper, group in said.groupby('paper', sort=False)}
