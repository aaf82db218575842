"Metrics against brute force, and that nothing between records and pictures loads torch."
import subprocess, sys
from itertools import permutations, product
from math import isclose

import numpy as np
import pytest

from snn_repro.metrics import accuracy, aurc, early_exit, e_aurc, ece, outcomes, prefix_accuracy, risk_coverage, summary, top_k
from snn_repro.spec import UserError


def graded(confidence, error):
    c = np.array(confidence, 'float32')
    return dict(label=np.zeros(len(c), int), prefix=np.array(error, int)[:, None], max_logit=c, max_softmax=c)


def brute_aurc(confidence, error):
    "The definition, averaged over every order in which the confidence does not rise."
    n, areas = len(error), []
    for order in permutations(range(n)):
        c = [confidence[i] for i in order]
        if c == sorted(c, reverse=True): areas.append(sum(sum(error[i] for i in order[:k]) / k for k in range(1, n + 1)) / n)
    return sum(areas) / len(areas)


def test_aurc_is_the_definition_also_with_ties():
    for n in (1, 2, 3, 4):
        for confidence, error in product(product((.25, .5, .75), repeat=n), product((0, 1), repeat=n)):
            assert isclose(aurc(graded(confidence, error)), brute_aurc(confidence, error), abs_tol=1e-12)
    rng = np.random.default_rng(0)
    for _ in range(10):
        confidence, error = rng.choice([.2, .4, .6, .8], 6).tolist(), rng.integers(0, 2, 6).tolist()
        assert isclose(aurc(graded(confidence, error)), brute_aurc(confidence, error), abs_tol=1e-12)


def test_the_order_of_the_test_set_does_not_matter():
    rng = np.random.default_rng(1)
    confidence, error, p = rng.choice(5, 300) / 5, rng.integers(0, 2, 300), rng.permutation(300)
    assert isclose(aurc(graded(confidence, error)), aurc(graded(confidence[p], error[p])), rel_tol=1e-12)


@pytest.mark.parametrize('n,m', [(1, 0), (1, 1), (7, 0), (7, 3), (7, 7), (200, 50)])
def test_perfect_and_worst_ranking(n, m):
    sure, error = np.linspace(1, .1, n), np.arange(n) >= n - m
    best = sum(k / (n - m + k) for k in range(1, m + 1)) / n
    worst = (m + sum(m / k for k in range(m + 1, n + 1))) / n
    assert isclose(aurc(graded(sure, error)), best, abs_tol=1e-12)
    assert isclose(e_aurc(graded(sure, error)), 0, abs_tol=1e-12)
    assert isclose(aurc(graded(-sure, error)), worst, abs_tol=1e-12)


def test_all_confidences_equal_is_the_error_rate():
    o = graded([.5] * 8, [1, 1, 0, 0, 0, 0, 0, 0])
    assert np.allclose(risk_coverage(o)[1], .25)


def test_ece_bin_by_bin():
    rng = np.random.default_rng(2)
    c, error = rng.uniform(.1, 1, 500).astype('float32'), rng.integers(0, 2, 500)
    c[:3] = 1.0, .2, .4
    total, edges = 0, np.arange(16) / 15
    for low, high in zip(edges, edges[1:]):
        inside = (c.astype(float) > low) & (c.astype(float) <= high)
        if inside.any(): total += inside.mean() * abs(c[inside].astype(float).mean() - (1 - error[inside]).mean())
    assert isclose(ece(graded(c, error)), total, abs_tol=1e-6)


def test_outcomes_against_loops():
    rng = np.random.default_rng(3)
    logits, labels = rng.integers(-2, 3, (60, 3, 5)).astype('float32'), rng.integers(0, 5, 60)    # whole numbers: many ties
    o = outcomes(logits, labels)
    for i, (z, y) in enumerate(zip(logits, labels)):
        mean = z.mean(0, dtype=float)
        assert o['step'][i].tolist() == [int(np.argmax(s)) for s in z]
        assert o['prefix'][i].tolist() == [int(np.argmax(z[:t].sum(0))) for t in (1, 2, 3)]
        assert o['rank'][i] == sum(k != y and mean[k] >= mean[y] - 1e-9 for k in range(5))
        assert isclose(o['max_logit'][i], mean.max(), rel_tol=1e-6)
        assert isclose(o['max_softmax'][i], np.exp(mean.max()) / np.exp(mean).sum(), rel_tol=1e-6)
    assert accuracy(o) == prefix_accuracy(o)[-1] and top_k(o, 1) <= accuracy(o) <= top_k(o, 5) == 1


def test_large_and_many():
    o = outcomes(np.full((4, 1, 300), 1000.), [0, 1, 2, 299])
    assert np.isfinite(o['max_softmax']).all() and o['rank'].tolist() == [299] * 4 and o['label'].tolist() == [0, 1, 2, 299]
    assert set(summary(o)) == {'top1', 'top5', 'aurc', 'aurc_softmax', 'e_aurc', 'ece', 'prefix', 'step'}


@pytest.mark.parametrize('logits,labels', [
    (np.zeros((3, 4)), [0, 1, 2]), (np.zeros((3, 2, 4)), [0, 1]), (np.zeros((3, 2, 4)), [0, 1, 4]),
    (np.zeros((3, 2, 4)), [0, -1, 2]), (np.full((1, 2, 4), np.nan), [0]), (np.zeros((0, 2, 4)), []), (np.zeros((3, 0, 4)), [0, 1, 2])])
def test_outcomes_refuse(logits, labels):
    with pytest.raises(UserError): outcomes(logits, np.array(labels, int))


def test_no_torch():
    code = 'import sys, snn_repro.metrics, snn_repro.stats, snn_repro.tables, snn_repro.figures; sys.exit("torch" in sys.modules)'
    assert subprocess.run([sys.executable, '-c', code]).returncode == 0


def brute_exit(logits, labels, threshold):
    "Step by step as a device would do it, from the logits themselves; the confidence rounded down to a byte."
    steps = right = 0
    for z, y in zip(logits.astype(float), labels):
        for t in range(1, len(z) + 1):
            mean = z[:t].mean(0)
            if int(255 * np.exp(mean.max()) / np.exp(mean).sum()) >= 255 * threshold: break
        steps, right = steps + t, right + (mean.argmax() == y)
    return steps / len(labels), right / len(labels)


def test_early_exit_against_loops_over_the_logits():
    rng = np.random.default_rng(4)
    logits, labels = rng.normal(0, 2, (80, 5, 6)).astype('float32'), rng.integers(0, 6, 80)
    o, thresholds = outcomes(logits, labels), [0, .2, .31, .5, .77, .9, .99, 1, 1.01]
    assert o['sure'].dtype == np.uint8 and o['sure'].shape == (80, 5)
    assert (o['sure'][:, -1] == np.floor(255 * o['max_softmax'].astype(float))).mean() > .98     # float32 may fall on the other side of a whole number
    np.testing.assert_allclose(np.transpose(early_exit(o, thresholds)), [brute_exit(logits, labels, t) for t in thresholds])


def test_early_exit_between_one_step_and_all():
    o = outcomes(np.random.default_rng(5).normal(0, 3, (200, 4, 10)), np.arange(200) % 10)
    steps, right = early_exit(o, [0, 1.001, 9])
    assert steps.tolist() == [1, 4, 4] and right.tolist() == [prefix_accuracy(o)[0], accuracy(o), accuracy(o)]
    assert (np.diff(early_exit(o, np.arange(257) / 255)[0]) >= 0).all()
    certain = outcomes(np.full((3, 2, 4), 500.) * np.eye(4)[0], [0, 0, 1])
    assert early_exit(certain, [1])[0] == 1 and early_exit(certain, [1.001])[0] == 2


def test_early_exit_needs_the_confidences():
    o = outcomes(np.zeros((3, 2, 4)), [0, 1, 2])
    del o['sure']
    with pytest.raises(UserError, match='how sure'): early_exit(o, [.5])
