"""What the records of several tiers say about the claims, in a few sentences: for the one-page
summary."""
import json
from functools import cache
from importlib.resources import files
from pathlib import Path

from snn_repro.analysis.claims import (CLAIMS, NOT_TRIED, SEEDS, changing, combine_verdicts,
                                       filled_rows, firmness, judged, mark)
from snn_repro.analysis.stats import BORDERLINE, TOO_LITTLE
from snn_repro.core.files import SEAL, sha256, write_json
from snn_repro.core.spec import ten_digits
from snn_repro.experiments.tiers import TIERS, Tier
from snn_repro.records.runs import Runs, packed_folders, results

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


def words(tier: Tier, runs: Runs, claims=CLAIMS) -> dict[str, str]:
    "Claim id -> its word in `tier`, as `verdicts` of chapter 7.10 has it, without counts."
    rows = filled_rows(tier, runs)
    found = {c.id: judged(c, rows, min(SEEDS, tier.seeds)) for c in claims}
    return {id: combine_verdicts([j.verdict for _, j in f]) + mark(firmness(f)[0])
            for id, f in found.items()}


def seals(tier: Tier) -> str | None:
    "Ten digits for the committed records of `tier`; None where there are none."
    blocks = [b for b in packed_folders(results(tier.name)) if (b/SEAL).exists()]
    return ten_digits({b.name: sha256(b/SEAL) for b in blocks}) if blocks else None


def write_words(path):
    "Write the words of the committed records of each tier, and the records' digits, into `path`."
    found = {t.name: {'records': seals(t), 'words': words(t, Runs(results(t.name)))}
             for t in TIERS.values() if seals(t)}
    write_json(path, found)


@cache
def written() -> dict:
    return json.loads((files('snn_repro')/'assets'/'verdicts.json').read_text(encoding='utf-8'))


def known_words(tier: Tier) -> dict[str, str]:
    "What `write_words` wrote for `tier`: claim id -> its word; none where it has no records."
    return written().get(tier.name, {}).get('words', {})


def same_records(tier: Tier) -> bool:
    "Whether the committed records are those of these words, or are not here."
    return seals(tier) in (None, written().get(tier.name, {}).get('records'))


def verdict_heading(words: dict) -> str:
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
            groups.setdefault(verdict_heading(words), {}).setdefault(c.paper, []).append(
                c.says + DAGGER*(c.id in loose))
    lines = [
        f'- *{head}.* ' + ' '.join(f'{paper}: {"; ".join(says)}.' for paper, says in papers.items())
        for head, papers in sorted(groups.items())]
    return '\n'.join([*lines, f'- *Open in every tier:* {rest} of {len(claims)} claims.'])
