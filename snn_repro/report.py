"""One page that opens from disk: how two sets of runs compare, at a glance, the claims, then every
table and figure with its tier, seeds and runs; and in a terminal one screen of it, or all tables.

All of it is read from records and the catalogue; a notebook's `redraw` alone imports torch, for the
experiments of its rows.
"""
import base64, re
from collections import Counter
from html import escape
from pathlib import Path
from typing import NamedTuple

import pandas as pd

import snn_repro
from snn_repro.catalogue import Exhibit, Tier, fill, find_tier, listed, plan
from snn_repro.claims import CLAIMS, MIXED, NOT_TRIED, claim_table, verdicts
from snn_repro.compared import commit, compare_sets, dates, distinct, page_section, processor, span, terminal_lines
from snn_repro.files import make_folder, write
from snn_repro.replication import MARK as DIFFERS_MARK
from snn_repro.runs import Runs, packed_folders
from snn_repro.spec import check
from snn_repro.stats import VERDICTS
from snn_repro.tables import DASH, MARK, legends, to_text
from snn_repro.watch import wrap

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; background: #fff }
h1, h2 { line-height: 1.2 } h2 { margin-top: 3rem; border-top: 1px solid #ccc; padding-top: 1rem }
table { border-collapse: collapse; font-size: .9rem } .wide { overflow-x: auto } .blocks td { min-width: 5.5rem }
th, td { text-align: left; padding: .2rem .7rem .2rem 0; border-bottom: 1px solid #e5e5e5; vertical-align: top }
td { font-variant-numeric: tabular-nums } img { max-width: 100%; height: auto }
.source, figcaption, details { color: #555; font-size: .9rem } code { font-size: .85rem; overflow-wrap: anywhere }
nav a { display: inline-block; margin-right: 1rem }
"""


def folders_of(runs, tier: Tier) -> list[Path]:
    """The folders of runs to read: those named, or `runs/TIER`, or else the committed `results/TIER`. Raises `UserError` for one that
    is not there, holds no run, or is named twice."""
    own, committed = Path('runs')/tier.name, Path('results')/tier.name
    found = list(runs or [own if own.is_dir() or not committed.is_dir() else committed])
    for p in found:
        check(p.is_dir(), 'there is no such folder of runs', str(p), 'make it: `snn-repro reproduce`, or name one with --runs')
        held = packed_folders(p) or (p/'plan.jsonl').exists() or any(p.glob('*/config.json'))
        check(held, 'there is no run in this folder', str(p), 'name a folder of runs, or a packed one, with --runs')
    check(len({p.resolve() for p in found}) == len(found), 'a folder is named twice', '--runs', 'name each once')
    return found


def ours(tier: Tier) -> Path | None:
    """The committed runs of a tier: of the folder one is in, or else of the clone that the library
    runs from; None where there are none."""
    homes = Path(), Path(snn_repro.__file__).parents[1]
    return next((p for home in homes if packed_folders(p := home/'results'/tier.name)), None)


def write_report(exhibits, tier: Tier, folders, folder, width: int = 100, tables: bool = False, against_ours: bool = False) -> Path:
    """Write `folder/index.html` from nothing but the records under `folders`, which stand side by
    side where there are several, and then print a screen of what it says, before it all `tables` of
    `exhibits` if they are asked for. A first folder is compared with each further one, or
    `against_ours`, the committed runs. Returns the page's path."""
    # `tier` may be that of chapter 31, whose scale takes experiments
    sources, known = {str(f): Runs(f) for f in folders}, find_tier(tier.name)
    wanted, text = plan(listed(exhibits), known), []
    claims = [c for c in CLAIMS if c.exhibit in {x.id for x in exhibits}]
    said = {name: verdicts(known, runs, claims) for name, runs in sources.items()} if claims else {}
    sections = ([claim_section(said, {name: claim_table(known, runs, claims)
                                      for name, runs in sources.items()}, tier)] if claims else [])
    if claims and tables:
        text.append(
            'claims: what the runs say of each\n\n'
            f'{to_text(side_by_side_verdicts(said).drop(columns=["paper", "where"]), width)}')
    for exhibit in exhibits:
        filled = {name: fill(exhibit, tier, runs) for name, runs in sources.items()}
        drawn = {name: exhibit.draw(f, tier.name) for name, f in filled.items()}
        if tables and is_table(drawn): text.append(f'{exhibit.id}: {exhibit.title}\n\n{to_text(side_by_side(drawn), width)}')
        sections.append(section(exhibit, filled, drawn, tier))
    glance = summed_up(exhibits, [(tier, runs) for runs in sources.values()], list(said.values()))
    compared, missing = beside(exhibits, known, sources, against_ours)
    links = ' '.join(f'<a href="#{i}">{i}</a>' for i in ['claims']*bool(claims) + [e.id for e in exhibits])
    read = ', '.join(f'<code>{escape(name)}</code>' for name in sources)
    page = f"""<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>snn-repro, tier {tier.name}</title>
<style>{STYLE}</style><h1>TKS and EnOF-SNN, rebuilt: tier <em>{tier.name}</em></h1><p class="source">From the records in {read}</p>
{''.join(page_section(c, html_table) for c in compared)}{f'<p class="source">{escape(missing)}</p>' if missing else ''}
<h2 id="glance">At a glance</h2>{html_table(glance)}<nav>{links}</nav>
{''.join(sections)}</html>"""
    path = make_folder(folder)/'index.html'
    write(path, page)
    empty = [f'{name} holds none of the runs that are asked for in tier {tier.name}.'
             for name, runs in sources.items() if not any(runs.get(e) for e in wanted)]
    text.append(screen(glance, compared, [*empty, *filter(None, [missing])], width))
    for part in [*text, f'Report: {path}']: print(f'\n{part}')
    return path


def beside(exhibits, tier: Tier, sources: dict, against_ours: bool) -> tuple[list, str]:
    "The comparisons that a report asks for, and a line where ours were asked for and are not there."
    (first, runs), *others = sources.items()
    if against_ours:
        committed = ours(tier)
        if committed is None:
            return ([], 'Not compared with our runs: they come with the clone, in '
                    f'results/{tier.name}, and are not here.')
        if committed.resolve() != Path(first).resolve(): others.append((str(committed), Runs(committed)))
    return [compare_sets(exhibits, tier, (first, runs), other) for other in others], ''


def screen(glance: pd.DataFrame, compared, remarks, width: int) -> str:
    "What ran, what the claims came to, and what differs, for the end of a terminal."
    lines = []
    for name, told in glance.iloc[:, :-1].items():
        lines += [f'{name}: {told["runs"]}; seeds {told["seeds"]}; {told["computing time"]}.',
                  *(f'{k}: {v}.' for k, v in told.items() if k.startswith('claims, '))]
    blocks = [remarks, lines, *([f'{c.here} compared with {c.there}:', *terminal_lines(c)] for c in compared)]
    return '\n\n'.join('\n'.join(wrap(l, width) for l in block) for block in blocks if block)


class Shown(NamedTuple):
    "An exhibit as a notebook shows it: what it is, its filled rows, and the table or figure drawn from them."
    exhibit: Exhibit
    filled: list
    drawn: object

    @property
    def by_method(self) -> dict:
        "Method -> its runs, of an exhibit or a part of one that has a row a method; rows without runs are left out."
        return {row.labels['method']: runs for row, runs in self.filled if runs}


def redraw(id: str, tier: str = 'mini', records='../results/mini', rerun: bool = False) -> Shown:
    """The table or figure `id` from the records in the folder `records`. With `rerun` what is
    missing is trained into `../runs/<tier>` and drawn from there. Raises `UserError` for an unknown
    id or tier, or a folder that was changed."""
    from snn_repro import exhibits, experiments
    (exhibit,), tier = exhibits.find([id]), experiments.find_tier(tier)
    if rerun:
        from snn_repro.launch import launch
        records = f'../runs/{tier.name}'
        failures = launch(plan([exhibit], tier), records)
        check(not failures, '; '.join(f'{f.id}: {f.reason}' for f in failures), id)
    filled = fill(exhibit, tier, Runs(records))
    return Shown(exhibit, filled, exhibit.draw(filled, tier.name))


def at_a_glance(exhibits, sources) -> pd.DataFrame:
    """Scope, seeds, hardware, computing time and outcome: one column for each `(tier, runs)` of
    `sources`, and what the papers' full runs take. The outcome counts the verdicts of the claims
    that look at these `exhibits`."""
    claims = [c for c in CLAIMS if c.exhibit in {x.id for x in exhibits}]
    return summed_up(exhibits, sources, [verdicts(find_tier(tier.name), runs, claims) for tier, runs in sources] if claims else [])


def summed_up(exhibits, sources, said: list[pd.DataFrame]) -> pd.DataFrame:
    "`at_a_glance` with the verdicts of each source."
    known, several = listed(exhibits), len({tier.name for tier, _ in sources}) < len(sources)
    columns = {}
    for i, (tier, runs) in enumerate(sources):
        tier = find_tier(tier.name)
        planned, here = plan(known, tier), [x for x in known if plan([x], tier)]
        scope = {'scope': ', '.join(f'{n} {what}{"s"*(n != 1)}' for what, n in parts_of(here, said).items())}
        records = [r for e in planned if (r := runs.get(e))]
        head = f'here ({tier.name}, {runs.path})' if several else f'here ({tier.name})'
        columns[head] = scope | {'tier': f'{tier.name}: {tier.about}'} | effort(
            records, len(planned), dates(runs, records)) | (outcome(said[i]) if said else {})
    return pd.DataFrame(columns | {"the papers' full runs": full_effort(known)}).fillna('–')


def parts_of(exhibits, said) -> dict:
    tables = sum(x.draw.kind == 'table' for x in exhibits)
    return {'table': tables, 'figure': len(exhibits) - tables} | ({'claim': len(said[0])} if said else {})


def effort(records, planned: int, days=()) -> dict:
    """What the `records` took: their number, of how many `planned`, seeds, epochs, steps, time,
    hardware and software, commit and `days`, in words."""
    seconds = sum(r.env['seconds'] for r in records)
    version = sorted(
        {f'snn-repro {r.env["versions"]["snn-repro"]}, torch {r.env["versions"]["torch"]}, Python '
         f'{r.env["versions"]["python"]}' for r in records})
    seeds = sorted({r.seed for r in records})
    one_core = all(r.env['device'] == 'cpu' and r.env.get('threads') == 1 for r in records)
    return {'runs': f'{len(records)} of {planned} planned, teachers included',
            'seeds': f'{seeds[0]} to {seeds[-1]}, paired' if seeds else 'none',
            'epochs a run': numbers(r.config['recipe']['epochs'] for r in records),
            'steps T of a net': numbers(r.config.get('T', '?') for r in records),
            'computing time': f'{duration(seconds)} {"of one core " if one_core else ""}in all, '
            f'{duration(seconds/max(len(records), 1))} a run',
            'hardware': '; '.join(sorted(set(map(processor, records)))),
            'software': '; '.join(version),
            'commit': distinct(map(commit, records)), 'made on': span(days)}


def full_effort(known) -> dict:
    "What the papers' own runs of exhibits of the catalogue take, in the words of `effort`."
    paper = find_tier('paper')
    full = plan(known, paper)
    steps = (int(re.search(r'-t(\d+)-', run.slug + '-')[1]) for run in full)
    return {'scope': 'the same', 'tier': paper.about,
            'runs': f'{len(full)}, teachers included, for one seed',
            'seeds': 'one, as far as the papers tell',
            'epochs a run': numbers(run.epochs for run in full), 'steps T of a net': numbers(steps),
            'computing time': "hours to days of a GPU a run: TET's author names about 5 hours on "
            "four RTX 3090 for one ResNet-19 on CIFAR. "
            'Of all of it: not known; `snn-repro plan` times it on a given machine',
            'hardware': 'GPUs',
            'software': "the official TKS code; for EnOF the first author's public MPBN code"}


def numbers(values) -> str: return ', '.join(map(str, sorted(set(map(str, values)), key=lambda v: (len(v), v))))


def duration(seconds: float) -> str:
    return f'{seconds:.1f} s' if seconds < 120 else f'{seconds/60:.0f} minutes' if seconds < 7200 else f'{seconds/3600:.1f} hours'


def outcome(said: pd.DataFrame) -> dict:
    "The verdicts of `claims.verdicts`, counted for each paper."
    words = [*(f'{partly}{v}' for v in VERDICTS for partly in ('', 'partly ')), MIXED, NOT_TRIED]
    def word(text): return re.split(r' in | \(', text)[0]
    def counts(texts): return ', '.join(f'{n} {w}' for w in words if (n := Counter(map(word, texts))[w]))
    return {f'claims, {paper}': counts(group.iloc[:, -1]) for paper, group in said.groupby('paper', sort=False)}


def side_by_side_verdicts(said: dict) -> pd.DataFrame:
    "`claims.verdicts` with one column of verdicts for each name; as they are if there is one."
    first, *_ = said.values()
    if len(said) == 1: return first
    return first.iloc[:, :-1].assign(**{f'{df.columns[-1]}, {name}': df.iloc[:, -1] for name, df in said.items()})


def side_by_side(tables: dict) -> pd.DataFrame:
    """Tables of the same rows as blocks of columns, each under its name; the paper's numbers stand
    in the first, runs and notes in a last one. As it is if there is one."""
    first, *others = tables.values()
    if not others: return first
    about, papers = ['run', 'note'], [c for c in first if c.endswith(', paper')]
    blocks = {name: t.drop(columns=about + papers*(t is not first)) for name, t in tables.items()}
    blocks['runs'] = pd.DataFrame({'run': [next((r for r in row if r != DASH), DASH)
                                           for row in zip(*(t['run'] for t in tables.values()))],
                                   'note': first['note'].tolist()}, first.index)
    corner = next((t.columns.name for t in tables.values() if t.columns.name), None)
    return pd.concat(blocks, axis=1).rename_axis(columns=[None, corner])


def is_table(drawn: dict) -> bool: return all(isinstance(d, pd.DataFrame) for d in drawn.values())


def claim_section(said: dict, compared: dict, tier: Tier) -> str:
    "The HTML of the claims: one line each, and every comparison behind them."
    told = ''.join(f'<details><summary>{len(df)} '
                   f'comparisons{of(name, compared)}</summary>{html_table(df)}</details>'
                   for name, df in compared.items())
    return (f'<section id="claims"><h2>Claims</h2><p class="source">tier {tier.name} · '
            f'{", ".join(VERDICTS[:-1])} or {VERDICTS[-1]}: by paired seeds, 95 % intervals and '
            'Holm\'s correction within a '
            f'claim</p>{html_table(side_by_side_verdicts(said))}{told}</section>')


def section(exhibit: Exhibit, filled: dict, drawn: dict, tier: Tier) -> str:
    "The HTML of one table or figure, from the rows filled and drawn by name of a folder."
    settings = {name: seeds_by_setting(rows) for name, rows in filled.items()}
    body = (html_table(side_by_side(drawn)) if is_table(drawn) else ''.join(
        f'{"" if len(drawn) == 1 else f"<h3>{escape(name)}</h3>"}<img '
        f'alt="{escape(exhibit.title + of(name, drawn))}" '
        f'src="data:image/png;base64,{base64.b64encode(figure.png(150)).decode()}">'
        for name, figure in drawn.items()))
    n = ', '.join(f'{max((len(s) for s in found.values()), default=0)} seeds{of(name, drawn)}' for name, found in settings.items())
    return (f'<section id="{exhibit.id}"><h2>{escape(exhibit.title)}</h2><p '
            f'class="source">{escape(exhibit.source)} · tier {tier.name} · {n} · '
            f'<code>{exhibit.id}</code></p>{body}<p>{escape(exhibit.caption)}</p>'
            + ''.join(f'<details><summary>{len(found)} '
                      f'settings{of(name, drawn)}</summary><ul>{listing(found)}</ul></details>'
                      for name, found in settings.items()) + '</section>')


def of(name: str, names) -> str:
    "' of NAME' where there are several."
    return f' of {escape(name)}' if len(names) > 1 else ''


def seeds_by_setting(filled) -> dict:
    settings = {}
    for row, records in filled:
        for r in records: settings.setdefault(r.setting, set()).add(r.seed)
    return settings


def listing(settings: dict) -> str:
    return ''.join(f'<li><code>{escape(s)}</code>, seeds {", ".join(map(str, sorted(seeds)))}</li>' for s, seeds in settings.items())


def html_table(df: pd.DataFrame) -> str:
    "The table as HTML; a cell with the mark of the best in bold, and what its marks mean below."
    html = re.sub(rf'<td>([^<]*(?:{re.escape(MARK)}|{re.escape(escape(DIFFERS_MARK))}))</td>',
                  r'<td><b>\1</b></td>', df.to_html(border=0, justify='left'))
    return (f'<div class="wide{" blocks"*(df.columns.nlevels > 1)}">{html}</div>'
            + ''.join(f'<p class="source">{escape(said)}</p>' for said in legends(df)))
