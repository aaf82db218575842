"""The report's page: its parts as HTML, each from plain data."""
import base64, re
from functools import lru_cache
from html import escape
from importlib.resources import files

import pandas as pd

from snn_repro.analysis.catalogue import Exhibit
from snn_repro.analysis.comparison import page_section
from snn_repro.analysis.replication import MARK as DIFFERS_MARK
from snn_repro.analysis.stats import VERDICTS
from snn_repro.analysis.tables import DASH, MARK, legends
from snn_repro.experiments.tiers import Tier


@lru_cache(maxsize=1)
def style() -> str: return (files('snn_repro')/'assets'/'report.css').read_text(encoding='utf-8')


def whole_page(tier: Tier, read, ids, compared, missing: str, glance: pd.DataFrame,
               sections) -> str:
    """The HTML of the page: from which folders it was `read`, how sets compare, at a glance, and
    the `sections`, with links to those of the `ids`."""
    title = f'snn-repro, tier {tier.name}'
    links = ' '.join(f'<a href="#{i}">{i}</a>' for i in ids)
    folders = ', '.join(f'<code>{escape(name)}</code>' for name in read)
    comparisons = ''.join(page_section(c, html_table) for c in compared)
    if missing: comparisons += f'<p class="source">{escape(missing)}</p>'
    return f"""<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>{title}</title>
<style>{style()}</style><h1>TKS and EnOF-SNN, rebuilt: tier <em>{tier.name}</em></h1>
<p class="source">From the records in {folders}</p>
{comparisons}
<h2 id="glance">At a glance</h2>{html_table(glance)}<nav>{links}</nav>
{''.join(sections)}</html>"""


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
    n = ', '.join(f'{max((len(s) for s in found.values()), default=0)} seeds{of(name, drawn)}'
                  for name, found in settings.items())
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
    return ''.join(f'<li><code>{escape(s)}</code>, seeds {", ".join(map(str, sorted(seeds)))}</li>'
                   for s, seeds in settings.items())


def html_table(df: pd.DataFrame) -> str:
    "The table as HTML; a cell with the mark of the best in bold, and what its marks mean below."
    html = re.sub(rf'<td>([^<]*(?:{re.escape(MARK)}|{re.escape(escape(DIFFERS_MARK))}))</td>',
                  r'<td><b>\1</b></td>', df.to_html(border=0, justify='left'))
    return (f'<div class="wide{" blocks"*(df.columns.nlevels > 1)}">{html}</div>'
            + ''.join(f'<p class="source">{escape(said)}</p>' for said in legends(df)))
