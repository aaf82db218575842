"""Tables as HTML, for a notebook and for a page.

Text stands left and numbers right, and each header says what it heads. What a paper printed and
what ran here stand side by side, under headers that name the net and the data of ours.
"""
import re
from collections.abc import Callable
from html import escape
from itertools import groupby
from typing import NamedTuple

import pandas as pd

HERE, PAPER, OURS = 'here', ', paper', ', ours'   # a column, and ends of columns' names
WORDS = {'', '–', 'not known', 'not run', 'reference'}   # what may stand among numbers
LOOKS = {'reproduced': 'up', 'better': 'up', 'contradicted': 'down', 'worse': 'down',
         'differs': 'down', 'not reproduced': 'level', 'no difference': 'level',
         'agrees': 'level', 'too little data': 'open', 'cannot tell': 'open', 'mixed': 'mixed'}
SIGNS = {'up': '▲', 'down': '▼', 'level': '●', 'open': '□', 'mixed': '◆', 'partly-up': '△',
         'partly-down': '▽', 'partly-level': '○'}


class Table(pd.DataFrame):
    """A table that a notebook shows whole, as `notebook_html` writes it. What is cut out of one is
    one as well. `attrs['first']` says which columns stand first, in which order, levels of the
    index among them if it names any; the others are folded away."""

    @property
    def _constructor(self): return Table

    def _repr_html_(self): return notebook_html(self)

    def __repr__(self):
        "As pandas has it, but a line is one line: blocks of columns repeat the index in each."
        with pd.option_context('display.expand_frame_repr', False, 'display.max_columns', None):
            return super().__repr__()


def is_number(text: str) -> bool: return bool(re.match(r'[+-]?×?[\d.,]*\d(?![\w-])', text))


def of_numbers(cells) -> bool:
    "Whether a column holds numbers, apart from words for those that are not there."
    told = [c for c in cells if c not in WORDS]
    return bool(told) and all(map(is_number, told))


def look_of(text: str) -> str:
    "How the verdict that a cell says looks, a key of `SIGNS`; '' where it says none."
    word = re.split(r' in | \(| †| <', text)[0]
    look = LOOKS.get(word.removeprefix('partly '), '')
    return f'partly-{look}' if look and word.startswith('partly ') else look


class Cell(NamedTuple):
    """A cell: its `text`, the `scope` of a header ('' for what is none), how many columns it spans,
    whether it holds a number, and the name of its column."""
    text: str
    scope: str = ''
    span: int = 1
    right: bool = False
    column: str = ''


def settled(ran: list[str]) -> list[str]:
    "What ran in each line; a line without runs stands with those before it, or else after it."
    last, found = next((r for r in ran if r not in WORDS), ''), []
    for r in ran: found.append(last := last if r in WORDS else r)
    return found


def whose(name: str, theirs: int, ours: int, scope: str) -> list[Cell]:
    "The headers over the paper's columns and ours."
    here = f'{HERE}: {name}' if name else HERE
    return [Cell('the paper', scope, theirs), Cell(here, scope, ours)]


def short_name(column: str) -> str:
    "A column's name under a header that says whose it is."
    return column.replace(f'{OURS} minus ', ', minus ').removesuffix(PAPER).removesuffix(OURS)


def column_heads(names, heads, right) -> list[list[Cell]]:
    "Lines of headers for the index `names` and for columns whose names have one level or more."
    lines = []
    for level in range(len(heads[0]) - 1 if heads else 0):
        same = [(name[-1], len(list(g))) for name, g in groupby(heads, lambda h: h[:level + 1])]
        lines.append([Cell('')]*len(names) + [Cell(n, 'colgroup', span) for n, span in same])
    return [*lines, [*(Cell(n, 'col') for n in names),
                     *(Cell(short_name(h[-1]), 'col', right=r) for h, r in zip(heads, right))]]


def grid(df: pd.DataFrame) -> tuple[list, list]:
    """The lines of headers of a table of texts, and its blocks of lines: those that follow each
    other and ran on the same net and data, if a column `here` tells."""
    numbered = df.index.names == [None] and isinstance(df.index, pd.RangeIndex)
    index = df.iloc[:, :0] if numbered else df.index.to_frame(index=False).astype(str)
    ran = settled(df[HERE].tolist()) if HERE in df else ['']*len(df)
    if HERE in df: df = df[sorted(df.columns.drop(HERE), key=lambda c: not c.endswith(PAPER))]
    names = ['' if isinstance(n, int) else n for n in index]
    heads = [c if isinstance(c, tuple) else (c,) for c in df]
    columns = [df.iloc[:, i].astype(str).tolist() for i in range(len(heads))]
    right = list(map(of_numbers, columns))
    lines = [[*(Cell(k, 'row', column=n) for n, k in zip(names, keys)),
              *(Cell(c, '', 1, r, ', '.join(filter(None, map(str, h))))
                for c, r, h in zip(cells, right, heads))]
             for keys, cells in zip(index.itertuples(index=False), zip(*columns))]
    blocks = [(name, [l for _, l in g]) for name, g in groupby(zip(ran, lines), lambda p: p[0])]
    top, printed = column_heads(names, heads, right), sum(h[-1].endswith(PAPER) for h in heads)
    if ran == ['']*len(ran): return top, [b for _, b in blocks]
    sizes = len(names) + printed, len(heads) - printed
    if len(blocks) == 1: return [whose(ran[0], *sizes, 'colgroup'), *top], [blocks[0][1]]
    return top, [[whose(name, *sizes, 'rowgroup'), *b] for name, b in blocks]


def table_html(df: pd.DataFrame, inside: Callable[[Cell], tuple[str, str]], start='<table>') -> str:
    "The table as HTML; `inside(cell)`: further attributes of a cell, and its content."
    def cell(c: Cell) -> str:
        attributes, content = inside(c)
        tag = 'th' if c.scope else 'td'
        scope = f' scope="{c.scope}"' if c.scope else ''
        span = f' colspan="{c.span}"' if c.span > 1 else ''
        return f'<{tag}{scope}{span}{attributes}>{content}</{tag}>'
    def written(lines): return ''.join(f'<tr>{"".join(map(cell, l))}</tr>' for l in lines)
    heads, blocks = grid(df)
    bodies = ''.join(f'<tbody>{written(b)}</tbody>' for b in blocks)
    return f'{start}<thead>{written(heads)}</thead>{bodies}</table>'


def notebook_cell(c: Cell) -> tuple[str, str]:
    sign = '' if c.scope else SIGNS.get(look_of(c.text), '')
    whole = ';white-space:nowrap' if c.right and not c.scope and '[' not in c.text else ''
    return (f' style="text-align:{"right" if c.right else "left"}{whole}"',
            f'{sign} {escape(c.text)}'.strip())


NOTEBOOK = '<table class="dataframe" style="max-width:900px">'


def only_columns(df: pd.DataFrame, names) -> pd.DataFrame:
    "The columns that `names` has, in its order; a level of the index that it names becomes one."
    levels = [n for n in df.index.names if n in names]
    return (df.reset_index(levels) if levels else df)[[n for n in names if n in levels or n in df]]


def notebook_html(df: pd.DataFrame) -> str:
    "The table for a notebook's output, at most 900 pixels wide."
    named = df.attrs.get('first', ())
    first = only_columns(df, named) if any(n in df for n in named) else df
    rest = [c for c in df if c not in first]
    def html(table): return table_html(table, notebook_cell, NOTEBOOK)
    note = f'<p>{escape(name)}</p>' if (name := df.columns.names[-1]) else ''
    folded = f'<details><summary>{", ".join(rest)}</summary>{html(df[rest])}</details>'
    return html(first) + note + folded*bool(rest)
