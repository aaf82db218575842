"""What the records of several tiers say about the claims, in a few sentences: for the one-page
summary."""
from pathlib import Path

from snn_repro.analysis.claims import (CLAIMS, NOT_TRIED, changing, combine_verdicts, filled_rows,
                                       firmness, judged, mark)
from snn_repro.analysis.stats import BORDERLINE, TOO_LITTLE
from snn_repro.experiments.tiers import Tier
from snn_repro.records.runs import Runs

OPEN = TOO_LITTLE, NOT_TRIED
DAGGER = BORDERLINE.strip()


def runs_in(folder) -> Runs | None:
    "The runs in a folder; None where it is not there."
    return Runs(folder) if Path(folder).is_dir() else None


def weighed(tier: Tier, runs: Runs | None, claims=CLAIMS) -> dict[str, list[str]]:
    "Claim id -> the verdicts of its comparisons in `tier`; none where nothing was run."
    if runs is None: return {c.id: [] for c in claims}
    rows = filled_rows(tier, runs)
    return {c.id: [j.verdict for _, j in judged(c, rows)] for c in claims}


def borderline(tier: Tier, runs: Runs | None, claims=CLAIMS) -> set[str]:
    "The ids of the claims whose word in `tier` is borderline (chapter 7.1)."
    if runs is None: return set()
    rows = filled_rows(tier, runs)
    return {c.id for c in claims if mark(firmness(judged(c, rows))[0])}


def unsteady(sources, claims=CLAIMS) -> str:
    """One sentence: how many words a redraw of the seeds changes in each `(tier, runs)` of
    `sources`."""
    found = [(tier.name, changing(tier, runs, claims)) for tier, runs in sources if runs]
    return ('Redrawn seeds change words: '
            + ', '.join(f'{c.comparisons:.0f} of {c.of} in {name}' for name, c in found) + '.')


def heading(words: dict) -> str:
    """Tier -> verdict as 'Reproduced in mini and small', 'Reproduced in mini, mixed in small';
    tiers where a claim was not tried are left out."""
    tiers = {}
    for tier, w in words.items():
        if w != NOT_TRIED: tiers.setdefault(w, []).append(tier)
    text = ', '.join(f'{w} in {" and ".join(names)}' for w, names in tiers.items())
    return text[0].upper() + text[1:]


def findings(sources, claims=CLAIMS) -> str:
    """Markdown: each claim once, under what the `(tier, runs)` of `sources` say of it; with a
    dagger where the word of one is borderline."""
    said, groups, rest = {tier.name: weighed(tier, runs, claims) for tier, runs in sources}, {}, 0
    loose = set().union(*(borderline(tier, runs, claims) for tier, runs in sources))
    for c in claims:
        words = {name: combine_verdicts(v[c.id]) for name, v in said.items()}
        if all(w in OPEN for w in words.values()): rest += 1
        else:
            groups.setdefault(heading(words), {}).setdefault(c.paper, []).append(
                c.says + DAGGER*(c.id in loose))
    lines = [
        f'- *{head}.* ' + ' '.join(f'{paper}: {"; ".join(says)}.' for paper, says in papers.items())
        for head, papers in sorted(groups.items())]
    return '\n'.join([*lines, f'- *Open in every tier:* {rest} of {len(claims)} claims.'])
