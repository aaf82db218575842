"""What there is to run, what of it has run, and what came out: read from lists, folders and records
in about a second, without torch."""
import json, textwrap
from functools import cache
from pathlib import Path

from snn_repro.analysis.catalogue import Exhibit, find, named, plan, scaled_to, seeds
from snn_repro.analysis.summary import known_words, same_records
from snn_repro.core.files import SEAL, readable
from snn_repro.core.text import wrap
from snn_repro.experiments.tiers import TIERS, Tier
from snn_repro.records.runs import RECORDS, packed_folders, results, unsqueezed

NONE = '–'   # no runs are planned (nothing stands in for its data), or none of ours are here


@cache
def ids_in(folder: Path) -> frozenset[str]:
    """The ids of the finished runs in a folder of run folders, or of packed records. Raises
    `UserError` for records that cannot be read."""
    found = {p.parent.name for p in folder.glob(f'*/{SEAL}')}
    for file in (block/RECORDS for block in packed_folders(folder)):
        with readable(file, 'do not use these records'):
            found |= {json.loads(line)['id'] for line in unsqueezed(file).splitlines()}
    return frozenset(found)


def done(runs, folder: Path | None) -> str:
    "How many of the planned `runs` are finished in a folder."
    if not runs or not folder: return NONE
    return f'{sum(e.id in ids_in(folder) for e in runs)} of {len(runs)}'


def both(tier: Tier, out: Path) -> tuple[tuple, str]:
    "The folders of your runs and of ours, None where these are not here; and a sentence on them."
    ours = results(tier.name)
    here, missing = (ours, '') if ours.is_dir() else (None, ' (not here: they come with a clone)')
    return (out, here), f'yours in {out}, ours in {ours}{missing}.'


def hanging(heads, rows, width: int) -> str:
    "A table whose last column is as wide as is left, and wraps within itself."
    cells = [heads, *rows]
    widths = [max(map(len, column)) for column in [*zip(*cells)][:-1]]
    indent = sum(w + 2 for w in widths)
    def line(cells):
        first = ''.join(c.ljust(w + 2) for c, w in zip(cells, widths))
        return textwrap.fill(cells[-1], max(width, indent + 20), initial_indent=first,
                             subsequent_indent=' '*indent, break_on_hyphens=False)
    rule = ['-'*w for w in (*widths, len(heads[-1]))]
    return '\n'.join(map(line, (heads, rule, *rows)))


def claims_of(exhibits, tier: Tier, width: int) -> list[str]:
    "The claims that `exhibits` test, with the words of the committed records of `tier`."
    from snn_repro.analysis.claims import CLAIMS
    words, ids = known_words(tier), {x.id for x in exhibits}
    rows = [(words[c.id], f'{c.paper}: {c.says} ({c.exhibit})')
            for c in CLAIMS if c.exhibit in ids and c.id in words]
    if not rows: return []
    old = ('' if same_records(tier) else ' These records have changed since the words were '
           'written: `snn-repro report` judges anew.')
    said = (f'By our records of tier {tier.name}; †: borderline. `snn-repro report --tier '
            f'{tier.name}` judges yours.{old}')
    return [hanging(('verdict', 'claim'), rows, width), wrap(said, width)]


def overview(tier: Tier, out: Path, width: int) -> str:
    "Every table and figure with its runs that are done, and every claim with its verdict."
    folders, where = both(tier, out)
    rows = [(x.id, *(done(plan([x], tier), f) for f in folders), x.title) for x in find()]
    others = ', '.join(t for t in TIERS if t != tier.name)
    said = (f'Runs done of planned in tier {tier.name}: {where} Other tiers: --tier '
            f'{others}. `snn-repro list ID` names the experiments of one.')
    return '\n\n'.join([hanging(('table or figure', 'yours', 'ours', 'title'), rows, width),
                        wrap(said, width), *claims_of(find(), tier, width)])


def experiments(exhibits: tuple[Exhibit, ...], tier: Tier, out: Path, width: int) -> str:
    "Every experiment of `exhibits` by its name, with its runs that are done, one a seed."
    folders, where = both(tier, out)
    def runs(x, row): return [e for s in seeds(x, tier) if (e := scaled_to(tier, row, s))]
    rows = [(name, *(done(runs(x, row), f) for f in folders))
            for x in exhibits for name, row in named(x).items()]
    if not rows: return 'no experiments of its own'
    said = f'Runs done of planned in tier {tier.name}, one a seed: {where}'
    return '\n\n'.join([hanging(('experiment', 'yours', 'ours'), rows, width),
                        wrap(said, width), *claims_of(exhibits, tier, width)])
