"""Claims as a picture: each effect with its interval, in units of the paper's gap.

Colour and shape both tell the verdict, so that it can be read in grey. The same picture serves a
trial of a loss, in points.
"""
import textwrap
from math import isfinite
from typing import NamedTuple

import matplotlib
from matplotlib.lines import Line2D

from snn_repro.analysis.claims import JudgedClaim
from snn_repro.analysis.figures import STYLE, Drawing, finish
from snn_repro.analysis.markup import look_of
from snn_repro.analysis.stats import CONTRADICTED, NOT_REPRODUCED, REPRODUCED, TOO_LITTLE, Judged
from snn_repro.experiments.tiers import Tier

BLUE, ORANGE, GREY = '#0072B2', '#D55E00', '#777777'
MARKERS = {'up': dict(marker='^', color=BLUE), 'down': dict(marker='v', color=ORANGE),
           'level': dict(marker='o', color=GREY),
           'open': dict(marker='s', color=GREY, markerfacecolor='white')}
LINE, TEXT, SPACE = .078, .165, .1   # inches: a comparison, a line of text, between groups
SIDES = {False: (42, 22), True: (64, 64)}   # narrow -> letters of a label, and of a word


class Group(NamedTuple):
    """What stands beside some lines: its `label`, the `word` about it all, the comparisons as the
    rule judges them, and the gap that one unit of each stands for."""
    label: str
    word: str
    judged: list[Judged]
    gaps: list[float]


def forest(groups: list[Group], words: dict, title: str, caption: str, x: str, runs=(),
           scale: str = 'linear', narrow: bool = False) -> Drawing:
    """A line a comparison with mean and interval, in groups from the top down. `words`: verdict of
    the rule -> how it is called here; `narrow`: labels above their lines, for a phone."""
    letters, room = SIDES[narrow]
    def wrap(text, width): return textwrap.wrap(text, width, break_on_hyphens=False)
    def text(g): return wrap(f'{g.label}: {g.word}' if narrow else g.label, letters)
    def head(g): return TEXT*len(text(g)) if narrow else 0
    def tall(g):
        beside = 0 if narrow else TEXT*max(len(text(g)), len(wrap(g.word, room)))
        return head(g) + max(LINE*max(1, len(g.judged)), beside) + SPACE
    height, width = sum(map(tall, groups)), 4.3 if narrow else 8.
    with matplotlib.rc_context(STYLE | {'font.size': 9, 'axes.grid': False}):
        fig = Drawing(figsize=(width, height + (2.1 if narrow else 1.5)), layout='constrained')
        ax, top = fig.subplots(), 0.
        beside, gaps = ax.get_yaxis_transform(), (1,) if scale == 'symlog' else (-1, 1)
        for g in groups:
            label, ends = '\n'.join(text(g)), [top + head(g), top + tall(g)]
            ax.plot([0, 0], ends, ls='-', color='black', lw=.8)
            for gap in gaps: ax.plot([gap, gap], ends, color=GREY, ls='--', lw=.8)
            where = dict(x=0, ha='left') if narrow else dict(x=-.02, ha='right')
            ax.text(y=top + SPACE/2, s=label, va='top', transform=beside, **where)
            if not narrow:
                ax.text(1.02, top + SPACE/2, '\n'.join(wrap(g.word, room)), va='top',
                        transform=beside)
            for i, (j, gap) in enumerate(zip(g.judged, g.gaps)):
                draw_effect(ax, j, gap, top + head(g) + SPACE/2 + LINE*(i + 1))
            top += tall(g)
        ax.set(ylim=(height, 0), yticks=[], xlabel=x)
        ax.spines['left'].set_visible(False)
        if scale == 'symlog':
            ax.set_xscale('symlog', linthresh=1)
            ax.xaxis.set_major_formatter('{x:g}')
        ax.minorticks_off()
        shown = dict.fromkeys(j.verdict for g in groups for j in g.judged)
        ax.legend([Line2D([], [], ls='', **MARKERS[look_of(v)]) for v in words if v in shown],
                  [words[v] for v in words if v in shown], loc='lower left',
                  bbox_to_anchor=(0, 1), ncols=2 if narrow else 4, frameon=False,
                  borderaxespad=0, handletextpad=.2, columnspacing=1)
        finish(fig, title, caption, runs)
    return fig


def draw_effect(ax, j: Judged, gap: float, y: float):
    "A mean with its interval, if it has one, in units of `gap`."
    look = MARKERS[look_of(j.verdict)]
    if isfinite(j.low):
        ax.plot([j.low/gap, j.high/gap], [y, y], ls='-', color=look['color'], lw=1.1)
    ax.plot(j.mean/gap, y, ls='', markersize=4.5, **look)


def claims_forest(said: list[JudgedClaim], tier: Tier, narrow: bool = False) -> Drawing:
    "The claims that were tried in `tier`, each comparison in units of its gap."
    tried = [s for s in said if s.found]
    groups = [Group(f'{s.claim.paper}: {s.claim.says}', s.word(tier), [j for _, j in s.found],
                    [c.gap for c, _ in s.found]) for s in tried]
    runs = dict.fromkeys(r.setting for s in tried for c, _ in s.found
                         for records in c.records for r in records)
    words = {v: v for v in (REPRODUCED, CONTRADICTED, NOT_REPRODUCED, TOO_LITTLE)}
    return forest(groups, words, f'Claims and verdicts · tier {tier.name}',
                  'A line is a comparison, from above in the order of the table: mean of the '
                  'paired differences with the interval that Holm corrects. Positive is what the '
                  'paper claims; 1 (dashed) is its gap, or ours where it prints none. Beyond 1 the '
                  'axis is logarithmic. † borderline.', "effect / the paper's gap",
                  tuple(runs), 'symlog', narrow)
