"What the records of several tiers say about the claims, in a few sentences: for the one-page summary."
from pathlib import Path

from snn_repro.catalogue import Tier
from snn_repro.claims import CLAIMS, NOT_TRIED, filled_rows, judged, word
from snn_repro.runs import Runs
from snn_repro.stats import TOO_LITTLE

OPEN = TOO_LITTLE, NOT_TRIED


def runs_in(folder) -> Runs | None:
    "The runs in a folder; None where it is not there."
    return Runs(folder) if Path(folder).is_dir() else None


def weighed(tier: Tier, runs: Runs | None, claims=CLAIMS) -> dict[str, list[str]]:
    "Claim id -> the verdicts of its comparisons in `tier`; none where nothing was run."
    if runs is None: return {c.id: [] for c in claims}
    rows = filled_rows(tier, runs)
    return {c.id: [j.verdict for _, j in judged(c, rows)] for c in claims}


def heading(words: dict) -> str:
    "Tier -> verdict as 'Reproduced in mini and small', 'Reproduced in mini, mixed in small'; tiers where a claim was not tried are left out."
    tiers = {}
    for tier, w in words.items():
        if w != NOT_TRIED: tiers.setdefault(w, []).append(tier)
    text = ', '.join(f'{w} in {" and ".join(names)}' for w, names in tiers.items())
    return text[0].upper() + text[1:]


def findings(sources, claims=CLAIMS) -> str:
    "Markdown: each claim once, under what the `(tier, runs)` of `sources` say of it."
    said, groups, rest = {tier.name: weighed(tier, runs, claims) for tier, runs in sources}, {}, 0
    for c in claims:
        words = {name: word(v[c.id]) for name, v in said.items()}
        if all(w in OPEN for w in words.values()): rest += 1
        else: groups.setdefault(heading(words), {}).setdefault(c.paper, []).append(c.says)
    lines = [f'- *{head}.* ' + ' '.join(f'{paper}: {"; ".join(says)}.' for paper, says in papers.items()) for head, papers in sorted(groups.items())]
    return '\n'.join([*lines, f'- *Open in every tier:* {rest} of {len(claims)} claims.'])
