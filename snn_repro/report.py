"""One page that opens from disk: at a glance, then every table and figure with its tier, seeds and runs; and the tables in a terminal.

All of it is read from records and the catalogue; a notebook's `redraw` alone imports torch, for the experiments of its rows.
"""
import base64
from html import escape
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from snn_repro.catalogue import Exhibit, Tier, fill, find_tier, listed, plan
from snn_repro.files import make_folder, write
from snn_repro.runs import Runs
from snn_repro.spec import check
from snn_repro.tables import to_text

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; background: #fff }
h1, h2 { line-height: 1.2 } h2 { margin-top: 3rem; border-top: 1px solid #ccc; padding-top: 1rem }
table { border-collapse: collapse; font-size: .9rem } .wide { overflow-x: auto }
th, td { text-align: left; padding: .2rem .7rem .2rem 0; border-bottom: 1px solid #e5e5e5; vertical-align: top }
td { font-variant-numeric: tabular-nums } img { max-width: 100%; height: auto }
.source, figcaption, details { color: #555; font-size: .9rem } code { font-size: .85rem; overflow-wrap: anywhere }
nav a { display: inline-block; margin-right: 1rem }
"""


def write_report(exhibits, tier: Tier, runs, folder, width: int = 100) -> Path:
    "Print the tables of `exhibits` and write `folder/index.html`, both from the records under `runs` alone. Returns the page's path."
    runs, sections, seen = Runs(runs), [], {}
    for exhibit in exhibits:
        filled = fill(exhibit, tier, runs)
        seen |= {r.id: r for _, records in filled for r in records}
        drawn = exhibit.draw(filled, tier.name)
        if isinstance(drawn, pd.DataFrame): print(f'\n{exhibit.id}: {exhibit.title}\n\n{to_text(drawn, width)}')
        sections.append(section(exhibit, filled, drawn, tier))
    teachers = {r.env['teacher']['id'] for r in seen.values() if 'teacher' in r.env}
    seen |= {i: r for i in teachers if (r := runs.find(i))}
    glance = at_a_glance(exhibits, tier, list(seen.values()))
    links = ' '.join(f'<a href="#{e.id}">{e.id}</a>' for e in exhibits)
    page = f"""<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>snn-repro, tier {tier.name}</title>
<style>{STYLE}</style><h1>TKS and EnOF-SNN, rebuilt: tier <em>{tier.name}</em></h1><h2 id="glance">At a glance</h2>{html_table(glance)}<nav>{links}</nav>
{''.join(sections)}</html>"""
    path = make_folder(folder)/'index.html'
    write(path, page)
    return path


class Shown(NamedTuple):
    "An exhibit as a notebook shows it: what it is, its filled rows, and the table or figure drawn from them."
    exhibit: Exhibit
    filled: list
    drawn: object


def redraw(id: str, tier: str = 'mini', records='../results/mini', rerun: bool = False) -> Shown:
    """The table or figure `id` from the records in the folder `records`. With `rerun` what is missing is trained into `../runs/<tier>`
    and drawn from there. Raises `UserError` for an unknown id or tier, or a folder that was changed."""
    from snn_repro import exhibits, experiments
    (exhibit,), tier = exhibits.find([id]), experiments.find_tier(tier)
    if rerun:
        from snn_repro.launch import launch
        records = f'../runs/{tier.name}'
        failures = launch(plan([exhibit], tier), records)
        check(not failures, '; '.join(f'{f.id}: {f.reason}' for f in failures), id)
    filled = fill(exhibit, tier, Runs(records))
    return Shown(exhibit, filled, exhibit.draw(filled, tier.name))


def at_a_glance(exhibits, tier: Tier, records) -> pd.DataFrame:
    "Scope, seeds, data, hardware and computing time, beside what the papers' full runs take."
    paper = find_tier('paper')
    full = plan(listed(exhibits), paper)
    seconds = sum(r.env['seconds'] for r in records)
    hardware = sorted({f'{r.env["hardware"]["cpu"]}, {r.env["hardware"]["cores"]} cores, {r.env["device"]}' for r in records})
    version = sorted({f'snn-repro {r.env["versions"]["snn-repro"]}, torch {r.env["versions"]["torch"]}, Python {r.env["versions"]["python"]}' for r in records})
    seeds = sorted({r.seed for r in records})
    epochs = sorted({r.config['recipe']['epochs'] for r in records})
    here = {'scope': f'{len(exhibits)} tables and figures', 'tier': f'{tier.name}: {tier.about}', 'runs': f'{len(records)}, teachers included',
            'seeds': f'{seeds[0]} to {seeds[-1]}, paired' if seeds else 'none', 'epochs a run': ', '.join(map(str, epochs)),
            'computing time': f'{seconds/60:.0f} minutes of one core in all, {seconds/max(len(records), 1):.1f} s a run',
            'hardware': '; '.join(hardware), 'software': '; '.join(version)}
    there = {'scope': 'the same', 'tier': paper.about, 'runs': f'{len(full)}, teachers included, for one seed',
             'seeds': 'one, as far as the papers tell', 'epochs a run': ', '.join(str(n) for n in sorted({run.epochs for run in full})),
             'computing time': "hours to days of a GPU a run: TET's author names about 5 hours on four RTX 3090 for one ResNet-19 on CIFAR",
             'hardware': 'GPUs', 'software': "the official TKS code; for EnOF the first author's public MPBN code"}
    return pd.DataFrame({f'here ({tier.name})': here, "the papers' full runs": there})


def section(exhibit: Exhibit, filled, drawn, tier: Tier) -> str:
    "The HTML of one table or figure."
    settings = {}
    for row, records in filled:
        for r in records: settings.setdefault(r.setting, set()).add(r.seed)
    listed = ''.join(f'<li><code>{escape(s)}</code>, seeds {", ".join(map(str, sorted(seeds)))}</li>' for s, seeds in settings.items())
    if isinstance(drawn, pd.DataFrame): body = html_table(drawn)
    else: body = f'<img alt="{escape(exhibit.title)}" src="data:image/png;base64,{base64.b64encode(drawn.png(150)).decode()}">'
    n = max((len(s) for s in settings.values()), default=0)
    return (f'<section id="{exhibit.id}"><h2>{escape(exhibit.title)}</h2><p class="source">{escape(exhibit.source)} · tier {tier.name} · {n} seeds · '
            f'<code>{exhibit.id}</code></p>{body}<p>{escape(exhibit.caption)}</p><details><summary>{len(settings)} settings</summary><ul>{listed}</ul></details></section>')


def html_table(df: pd.DataFrame) -> str: return f'<div class="wide">{df.to_html(border=0, justify="left")}</div>'
