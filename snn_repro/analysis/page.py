"""The report's page: its parts as HTML, each from plain data.

One file that opens from disk: style, script and pictures are in it, and it asks nothing of a
network.
"""
import re
from collections.abc import Callable
from functools import lru_cache
from html import escape
from importlib.resources import files
from io import BytesIO
from os.path import relpath
from pathlib import Path

import pandas as pd

from snn_repro.analysis.catalogue import Exhibit
from snn_repro.analysis.claims import CLAIMS
from snn_repro.analysis.comparison import (alarm, commit, distinct, in_short, page_section,
                                           processor)
from snn_repro.analysis.markup import SIGNS, Cell, Table, look_of, table_html
from snn_repro.analysis.replication import MARK as DIFFERS_MARK
from snn_repro.analysis.stats import VERDICTS
from snn_repro.analysis.tables import DASH, MARK, legends, ran_on
from snn_repro.experiments.tiers import Tier
from snn_repro.records.runs import results


# The whole of it

@lru_cache(maxsize=None)
def asset(name: str) -> str: return (files('snn_repro')/'assets'/name).read_text(encoding='utf-8')


def html_page(title: str, body: str) -> str:
    "A page in the common look, dark or light as the reader has it."
    return (f'<!doctype html><html lang="en"><meta charset="utf-8">'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">'
            f'<title>{escape(title)}</title><style>{asset("report.css")}</style>\n{body}\n'
            f'<script>{asset("report.js")}</script></html>')


def whole_page(tier: Tier, read: dict, ids, compared, missing: str, glance: pd.DataFrame,
               sections) -> str:
    """The HTML of the page: which folders were `read` and how their runs were made, the first of
    the `sections`, how sets compare, at a glance, and the other sections; `ids`: those to link."""
    first, *rest = sections
    links = ' '.join(f'<a href="#{i}">{i}</a>' for i in ids)
    made = ''.join(f'<p class="source">From the records in <code>{escape(name)}</code>: '
                   f'{escape(how)}</p>' for name, how in read.items())
    told = ''.join(f'<p class="source">{link(compared_id(i), f"Compared with {c.there}")}: '
                   f'{escape(in_short(c))}</p>' for i, c in enumerate(compared))
    told += ''.join(f'<p class="alarm">{escape(alarm(said))}</p>' for c in compared
                    for said in c.alarms)
    beside = ''.join(section_html(compared_id(i), f'{c.here} compared with {c.there}',
                                  page_section(c, html_table)) for i, c in enumerate(compared))
    if missing: beside += f'<p class="source">{escape(missing)}</p>'
    return html_page(
        f'snn-repro, tier {tier.name}',
        f'<h1>TKS and EnOF-SNN, rebuilt: tier <em>{tier.name}</em></h1>{made}{told}'
        f'<nav>{links}</nav>{first}{beside}'
        f'{section_html("glance", "At a glance", html_table(glance))}{"".join(rest)}')


def compared_id(i: int) -> str: return f'compared-{i + 1}'


def section_html(id: str, title: str, body: str) -> str:
    "A section with a heading that links to itself."
    return f'<section id="{id}"><h2>{escape(title)}{pin(id)}</h2>{body}</section>'


def pin(id: str) -> str:
    return f' <a class="pin" href="#{id}" aria-label="link to {id}">¶</a>'


def link(id: str, text: str = '') -> str: return f'<a href="#{id}">{escape(text or id)}</a>'


def links(ids: str) -> str: return ', '.join(map(link, ids.split(', '))) if ids else ''


# Tables

def html_table(df: pd.DataFrame, show: dict[str, Callable] | None = None,
               pins: tuple[str, str] | None = None) -> str:
    """The table as HTML, in bold what is marked as the best, and what its marks mean below. `show`:
    a column -> its cell's text as HTML; `pins`: a column, and what the ids of its cells begin
    with."""
    shown = {'run': lambda text: link(f'run-{text}', text) if text != DASH else text} | (show or {})
    def inside(c: Cell) -> tuple[str, str]:
        name, look = c.column.rpartition(', ')[-1], '' if c.scope else look_of(c.text)
        kinds = ' '.join(filter(None, ('n'*c.right, look, 'run'*(name == 'run'))))
        attributes = f' class="{kinds}"' if kinds else ''
        leads = name in shown and c.scope in ('', 'row')
        content = shown[name](c.text) if leads else escape(c.text)
        if not c.scope: attributes += f' data-label="{escape(c.column)}"'
        if c.scope.endswith('group'): content = f'<span class="stay">{content}</span>'
        if look: content = f'<span aria-hidden="true">{SIGNS[look]}</span> {content}'
        if c.text.endswith((MARK, DIFFERS_MARK)): content = f'<b>{content}</b>'
        if pins and c.scope == 'row' and name == pins[0]:
            id = pins[1] + c.text
            attributes, content = f'{attributes} id="{id}"', content + pin(id)
        return attributes, content
    return (f'<div class="wide">{table_html(df, inside)}</div>'
            + ''.join(f'<p class="source">{escape(said)}</p>' for said in legends(df)))


def side_by_side_verdicts(said: dict) -> pd.DataFrame:
    "`claims.verdicts` with one column of verdicts for each name; as they are if there is one."
    first, *_ = said.values()
    if len(said) == 1: return first
    return first.iloc[:, :-1].assign(**{f'{df.columns[-1]}, {name}': df.iloc[:, -1]
                                        for name, df in said.items()})


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


# Pictures

INKS = (dict.fromkeys(('#000000', '#1a1a1a', '#333333'), 'currentColor')
        | dict.fromkeys(('#555555', '#666666', '#777777'), 'var(--soft)')
        | dict.fromkeys(('#ffffff', '#efeee9'), 'var(--ground)')
        | {'#0072b2': 'var(--up)', '#d55e00': 'var(--down)'})


def picture(figure, id: str, alt: str, kind: str = '') -> str:
    """A drawing as SVG in the page: its black and white are the theme's, its letters the page's.
    `id` begins the ids in it; `kind`: a class."""
    import matplotlib
    out = BytesIO()
    with matplotlib.rc_context({'svg.fonttype': 'none', 'svg.hashsalt': id}):
        figure.savefig(out, format='svg', transparent=True)
    svg = out.getvalue().decode()
    width = float(re.search(r'viewBox="0 0 ([\d.]+)', svg)[1])
    svg = re.sub(r'<metadata>.*?</metadata>|<!--.*?-->', '', svg[svg.index('<svg'):], flags=re.S)
    svg = re.sub(r'<svg.*?viewBox="(.*?)".*?>', r'<svg viewBox="\1">', svg, count=1, flags=re.S)
    svg = re.sub(r"(font: [^;']*?[\d.]+px) [^;\"]+", r'\1 system-ui, sans-serif', svg)
    svg = re.sub('font-family: [^;"]+', 'font-family: system-ui, sans-serif', svg)
    svg = re.sub(r'>\s+<', '><', re.sub(r'(\d+\.\d\d)\d+', r'\1', svg))
    svg = svg.replace('xlink:href', 'href')
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', svg))
    svg = re.sub(r' id="([^"]+)"', lambda m: f' id="{id}-{m[1]}"'*(m[1] in used), svg)
    svg = re.sub(r'(url\(|href=")#', rf'\1#{id}-', svg)
    for ink, themed in INKS.items(): svg = svg.replace(ink, themed)
    size = f'width:{1.25*width:.0f}pt;max-width:100%;min-width:{min(.75*width, 400):.0f}pt'
    svg = svg.replace('<svg', f'<svg role="img" aria-label="{escape(alt)}" style="{size}"', 1)
    return f'<figure{f" class={chr(34)}{kind}{chr(34)}" if kind else ""}>{svg}</figure>'


# Sections

def claim_section(said: dict, compared: dict, drawings: dict, tier: Tier) -> str:
    """The HTML of the claims: a picture, one line each, and every comparison behind them.
    `drawings`: name of a folder -> the picture for a screen and that for a phone."""
    pictures = ''.join(
        picture(figure, f'claims-{kind}-{i}', 'Each claim with its effects, intervals and verdict; '
                f'the table below says the same{of(name, drawings)}', kind)
        for i, (name, both) in enumerate(drawings.items())
        for kind, figure in zip(('broad', 'narrow'), both))
    exhibits = {c.id: c.exhibit for c in CLAIMS}
    df = side_by_side_verdicts(said)
    words = [c for c in df if c.startswith('tier ')]
    df = df[[*words, *df.columns.drop(words)]].assign(looks=[exhibits[i] for i in df.index])
    table = html_table(df.rename(columns={'looks': 'looks at'}), {'looks at': links},
                       ('claim', 'claim-'))
    def linked(claim): return link(f'claim-{claim}', claim)
    told = ''.join(
        f'<details><summary>{len(df)} comparisons{of(name, compared)}</summary>'
        f'{html_table(df[["verdict", *df.columns.drop("verdict")]], {"claim": linked})}</details>'
        for name, df in compared.items())
    return section_html('claims', 'Claims', f'<p class="source">tier {tier.name} · '
                        f'{", ".join(VERDICTS[:-1])} or {VERDICTS[-1]}: by paired seeds, 95 % '
                        "intervals and Holm's correction within a claim</p>"
                        f'{pictures}{table}{told}')


def section(exhibit: Exhibit, filled: dict, drawn: dict, tier: Tier, folder: Path) -> str:
    """The HTML of one table or figure, from the rows filled and drawn by name of a folder;
    `folder`: where the page will lie."""
    settings = {name: seeds_by_setting(rows) for name, rows in filled.items()}
    body = (html_table(side_by_side(drawn)) if is_table(drawn) else ''.join(
        f'{"" if len(drawn) == 1 else f"<h3>{escape(name)}</h3>"}'
        + picture(figure, f'{exhibit.id}-{i}', exhibit.title + of(name, drawn))
        for i, (name, figure) in enumerate(drawn.items())))
    n = ', '.join(f'{max((len(s) for s in found.values()), default=0)} seeds{of(name, drawn)}'
                  for name, found in settings.items())
    claims = ', '.join(link(f'claim-{c.id}', c.id) for c in CLAIMS if c.exhibit == exhibit.id)
    about = [escape(exhibit.source), f'tier {tier.name}', n, chapter_link(exhibit.chapter, folder),
             claims and f'claims: {claims}', f'<code>{exhibit.id}</code>']
    told = ''.join(f'<details><summary>{len(found)} settings{of(name, drawn)}</summary>'
                   f'<ul>{listing(found)}</ul></details>' for name, found in settings.items())
    return section_html(exhibit.id, exhibit.title,
                        f'<p class="source">{" · ".join(filter(None, about))}</p>{body}'
                        f'<p>{escape(exhibit.caption)}</p>{told}')


def chapter_link(chapter: str, folder: Path) -> str:
    "'chapter 8.6', a link where the clone with its notebooks is there."
    if not chapter: return ''
    part, number = re.match(r'(\d)_\w+/0?(\d+)_', chapter).groups()
    path = (results().parent/'nbs'/f'{chapter}.ipynb').resolve()
    said = f'chapter {part}.{number}'
    if not path.exists(): return said
    return f'<a href="{escape(Path(relpath(path, Path(folder).resolve())).as_posix())}">{said}</a>'


def runs_section(filled: dict) -> str:
    """The HTML of the runs, one line a setting: what, how often, how long, when, where, and the
    tables that show it. `filled`: id of a table -> name of a folder -> its filled rows."""
    runs, used = {}, {}
    for id, by_name in filled.items():
        for name, rows in by_name.items():
            for _, records in rows:
                for r in records:
                    runs.setdefault(r.setting, {}).setdefault(name, {})[r.seed] = r
                    used.setdefault(r.setting, {})[id] = None
    def line(setting, by_name):
        records = [r for of_one in by_name.values() for r in of_one.values()]
        return {'run': setting, 'here': ran_on(records[:1]), 'T': str(records[0].config.get('T')),
                'epochs': str(records[0].config['recipe']['epochs']),
                'seeds': '; '.join(numbers_of(s) for s in by_name.values()),
                'seconds a run': f'{sum(r.env["seconds"] for r in records)/len(records):.1f}',
                'commit': distinct(commit(r)[:12] for r in records),
                'processor': distinct(map(processor, records)),
                'shown in': ', '.join(used[setting])}
    if not runs: return ''
    df = Table([line(*one) for one in sorted(runs.items())])
    df = df.rename(columns={'here': 'net and data'}).set_index('run')
    return section_html('runs', 'Runs', html_table(df, {'run': escape, 'shown in': links},
                                                   ('run', 'run-')))


def numbers_of(seeds) -> str: return ', '.join(map(str, sorted(seeds)))


def of(name: str, names) -> str:
    "' of NAME' where there are several."
    return f' of {escape(name)}' if len(names) > 1 else ''


def seeds_by_setting(filled) -> dict:
    settings = {}
    for row, records in filled:
        for r in records: settings.setdefault(r.setting, set()).add(r.seed)
    return settings


def listing(settings: dict) -> str:
    return ''.join(f'<li><code>{link(f"run-{s}", s)}</code>, seeds {numbers_of(seeds)}</li>'
                   for s, seeds in settings.items())
