"Two groups of runs, paired by seed: the numbers beside a brute force, and what cannot be compared."
import math
from pathlib import Path
from statistics import mean, stdev

import pytest

from conftest import NAME, TINY
from snn_repro import compare_runs
from snn_repro.analysis.groups import GAP, WORDS, by_setting, records_of
from snn_repro.analysis.stats import judge
from snn_repro.core.spec import UserError
from snn_repro.records.runs import Runs

MINI = Path(__file__).parents[1]/'results/mini'
A, B = MINI/'*-tks-s*-f84453595c', MINI/'*-27df7fd962'


def brute(o) -> dict:
    "Accuracy and that of the first step, image by image, in per cent."
    right = [p[-1] == y for p, y in zip(o['prefix'].tolist(), o['label'].tolist())]
    first = [p[0] == y for p, y in zip(o['step'].tolist(), o['label'].tolist())]
    return {'top1': 100*sum(right)/len(right), 'first': 100*sum(first)/len(first)}


def test_the_effect_is_what_a_loop_finds():
    g = compare_runs(A, B)
    found = {(r.config['seed'], r.id.endswith('f84453595c')): brute(r.outcomes)
             for r in Runs(MINI) if r.id.endswith(('f84453595c', '27df7fd962'))
             and r.id.startswith('digits-')}
    assert g.seeds == list(range(8)) and len(found) == 16 and not g.left_out
    for key in ('top1', 'first'):
        d = [found[s, True][key] - found[s, False][key] for s in range(8)]
        half = 2.3646242510103*stdev(d)/math.sqrt(8)   # Student's quantile for 7 degrees
        j = g.effects[key]
        assert j.n == 8 and j.mean == pytest.approx(mean(d), abs=1e-9)
        assert (j.low, j.high) == pytest.approx((mean(d) - half, mean(d) + half), abs=1e-6)
        assert j.above == sum((v > 0) + (v == 0)/2 for v in d)/8
    top = [found[s, True]['top1'] - found[s, False]['top1'] for s in range(8)]
    assert g.effects['top1'].verdict == judge([top], [GAP])[0].verdict   # as `try` judges it


def test_the_sides_turned_round_turn_the_effect():
    one, two = compare_runs(A, B).effects, compare_runs(B, A).effects
    for key, j in one.items():
        assert two[key].mean == pytest.approx(-j.mean)
        assert (two[key].low, two[key].high) == pytest.approx((-j.high, -j.low))
        assert two[key].above == pytest.approx(1 - j.above)


def test_the_command_tells_effect_interval_and_settings(cli):
    code, text, _ = cli('compare', A, B)
    j = compare_runs(A, B).effects
    lines = [l.split() for l in text.splitlines()]
    assert code == 0 and ['objective.0.type', 'TKS', 'CE'] in lines
    row = next(l for l in lines if l[:2] == ['top-1', '%'] and 'after' not in l)
    assert row[4:] == [f'{j["top1"].mean:+.2f}', f'{j["top1"].low:+.2f}', 'to',
                       f'{j["top1"].high:+.2f}', f'{j["top1"].above:.2f}']
    row = next(l for l in lines if l[:1] == ['AURC'])
    assert row[-1] == f'{1 - j["aurc"].above:.2f}'   # less of it is better
    words = ' '.join(text.split())
    assert '8 paired seeds: 0, 1, 2, 3, 4, 5, 6, 7.' in words
    assert f'by top-1: {WORDS[j["top1"].verdict]}, power' in words


def test_runs_in_folders_are_grouped_by_what_they_share(cli, tmp_path):
    out = tmp_path/'runs'
    for seed, peak in ((0, .7), (1, .7), (0, .1)):
        words = ['--seed', seed, '--set', f'objective.0.peak={peak}', '--out', out]
        assert cli('run', NAME, *TINY, *words)[0] == 0
    two, one = sorted(by_setting(Runs(out)).values(), key=len, reverse=True)
    code, text, _ = cli('compare', out)
    assert code == 0 and 'Left out, since one side alone has them: seeds 1.' in text
    assert ['objective.0.peak'] == [l.split()[0] for l in text.splitlines() if 'peak' in l]
    assert '1 paired seed: 0.' in text
    folders = [out/r.id for r in Runs(out)]
    assert cli('compare', *folders)[1] == text   # as a shell gives them for out/*
    patterns = [out/f'*-{side[0].id[-10:]}' for side in (one, two)]
    assert cli('compare', *patterns)[0] == 0
    single = compare_runs(*patterns).effects['top1']
    assert single.n == 1 and math.isnan(single.low)


def test_what_cannot_be_compared_says_so(refused, tmp_path):
    assert 'runs of 10 settings' in refused('compare', MINI/'digits-smallresnet-t4-tks-s*', B)
    assert 'they differ in' in refused('compare', MINI)
    assert 'no run has such a name' in refused('compare', MINI/'nothing-*', B)
    assert 'no such folder' in refused('compare', tmp_path/'x'/'*', B)
    assert 'not a finished run' in refused('compare', tmp_path, B)
    assert 'not 1 settings' in refused('compare', B)
    records = records_of(B)
    with pytest.raises(UserError, match='no seed is on both sides'):
        compare_runs(records[:2], records[2:])
    with pytest.raises(UserError, match='a seed occurs twice'):
        compare_runs([*records, records[0]], records)
