"""The one-page summary says what the records say, also of a tier that is missing or begun, and fits
on a page."""
import json, re
from pathlib import Path

import pytest

from snn_repro.analysis import summary
from snn_repro.analysis.catalogue import exhibits
from snn_repro.analysis.claims import CLAIMS, MIXED, NOT_TRIED, changing, combine_verdicts, verdicts
from snn_repro.analysis.report import at_a_glance
from snn_repro.analysis.stats import BORDERLINE, VERDICTS
from snn_repro.analysis.summary import DAGGER, borderline, findings, runs_in, unsteady, weighed
from snn_repro.experiments.tiers import find_tier
from snn_repro.records.runs import Runs

root = Path(__file__).parents[1]
mini, small = find_tier('mini'), find_tier('small')
R, N, C, L = 'reproduced', 'not reproduced', 'contradicted', 'too little data'


@pytest.fixture(scope='module')
def runs(): return Runs(root/'results/mini')


def test_every_claim_has_the_verdict_of_the_claims_page(runs):
    told, said = verdicts(mini, runs)['tier mini'], weighed(mini, runs)
    assert list(said) == [c.id for c in CLAIMS]
    for id, v in said.items():
        w = combine_verdicts(v)
        assert (told[id].startswith(f'{w} in mini') and
                (' (' in told[id]) == (w == MIXED or w.startswith('partly ')))
    assert {combine_verdicts(v) for v in said.values()} <= {*VERDICTS, MIXED, NOT_TRIED,
                                                *(f'partly {v}' for v in VERDICTS)}


@pytest.mark.parametrize(
    'said, expected', [([], NOT_TRIED), ([L, L], L), ([R, R], R), ([R, L], 'partly reproduced'),
                       ([N, L, N], 'partly not reproduced'), ([R, C], MIXED), ([C, N, L], MIXED)])
def test_one_word_for_several_comparisons(said, expected): assert combine_verdicts(said) == expected


def test_the_sentences_follow_the_verdicts(monkeypatch):
    answers = {'mini': [[R], [C, C], [N], [R, C, L], [], [R, R], [R]],
               'small': [[R], [R], [], [L], [L], [C, L], [L]]}
    some = CLAIMS[:7]
    monkeypatch.setattr(summary, 'weighed', lambda tier, runs, claims: dict(
        zip((c.id for c in claims), answers[tier.name])))
    says, text = [c.says for c in some], findings([(mini, None), (small, None)], some)
    lines = dict(re.match(r'- \*(.*?)[.:]\* (.*)', l).groups()
                 for l in text.splitlines() if l.startswith('-'))
    assert lines == {'Reproduced in mini and small': f'EnOF: {says[0]}.',
                     'Contradicted in mini, reproduced in small': f'EnOF: {says[1]}.',
                     'Not reproduced in mini': f'EnOF: {says[2]}.',
                     'Mixed in mini, too little data in small': f'EnOF: {says[3]}.',
                     'Reproduced in mini, partly contradicted in small': f'EnOF: {says[5]}.',
                     'Reproduced in mini, too little data in small': f'EnOF: {says[6]}.',
                     'Open in every tier': '1 of 7 claims.'}


def test_a_tier_that_is_missing_or_begun_says_how_far_it_is(runs, tmp_path):
    assert runs_in(tmp_path/'no') is None and runs_in(tmp_path) is not None
    for none in (None, Runs(tmp_path)):
        assert (findings([(small, none)]) ==
                f'- *Open in every tier:* {len(CLAIMS)} of {len(CLAIMS)} claims.')
    class Some:
        def get(self, e): return runs.get(e) if e.seed < 2 else None
    told = at_a_glance(exhibits(), [(mini, Some()), (small, Runs(tmp_path))]).loc['runs']
    assert re.match(r'0 of \d+ planned', told['here (small)'])
    done, wanted = map(int, re.match(r'(\d+) of (\d+) planned', told['here (mini)']).groups())
    assert 0 < done < wanted / 2


def test_the_page_is_one_page():
    cells = json.loads((root/'nbs/8_results/17_summary.ipynb').read_text())['cells']
    shown = [''.join(o['data']['text/markdown']) for c in cells
             for o in c.get('outputs', []) if 'text/markdown' in o.get('data', {})]
    prose = [''.join(c['source']) for c in cells
             if c['cell_type'] == 'markdown' and c['id'] != 'previous-next'] + shown
    assert len(shown) == 3 and len(' '.join(prose).split()) <= 700


def test_a_borderline_word_is_marked_where_it_is_said_and_changes_none(runs):
    loose, said = borderline(mini, runs), verdicts(mini, runs)['tier mini']
    assert loose == set(said.index[said.str.endswith(BORDERLINE)]) and 0 < len(loose) < len(CLAIMS)
    text, plain = findings([(mini, runs)]), findings([(mini, None)])
    for c in CLAIMS:
        if c.says in text: assert (f'{c.says}{DAGGER}' in text) == (c.id in loose)
    assert DAGGER not in plain
    assert ({id: combine_verdicts(v) for id, v in weighed(mini, runs).items()} ==
            {id: re.split(r' in mini', t)[0] for id, t in said.items()})


def test_the_sentence_on_changing_words_has_their_number(runs):
    c = changing(mini, runs)
    assert (unsteady([(mini, runs), (small, None)]) ==
            f'Redrawn seeds change words: {c.comparisons:.0f} of {c.of} in mini.')
