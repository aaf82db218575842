"Metrics against brute force, and that nothing between records and pictures loads torch."
import subprocess, sys
from fractions import Fraction
from itertools import permutations, product
from math import isclose

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import fuzz
from snn_repro.core.spec import UserError
from snn_repro.metrics.classification import (accuracy, aurc, class_accuracy, e_aurc, early_exit,
                                              ece, outcomes, prefix_accuracy, risk_coverage,
                                              separation, step_accuracy, summary, top_k)


def graded(confidence, error):
    c = np.array(confidence, 'float32')
    return dict(label=np.zeros(len(c), int), prefix=np.array(error, int)[:, None], max_logit=c,
                max_softmax=c)


def brute_aurc(confidence, error):
    "The definition, averaged over every order in which the confidence does not rise."
    n, areas = len(error), []
    for order in permutations(range(n)):
        c = [confidence[i] for i in order]
        if c == sorted(c, reverse=True):
            areas.append(sum(sum(error[i] for i in order[:k]) / k for k in range(1, n + 1)) / n)
    return sum(areas) / len(areas)


def test_aurc_is_the_definition_also_with_ties():
    for n in (1, 2, 3, 4):
        for confidence, error in product(product((.25, .5, .75), repeat=n),
                                         product((0, 1), repeat=n)):
            assert isclose(aurc(graded(confidence, error)), brute_aurc(confidence, error),
                           abs_tol=1e-12)
    rng = np.random.default_rng(0)
    for _ in range(10):
        confidence, error = rng.choice([.2, .4, .6, .8], 6).tolist(), rng.integers(0, 2, 6).tolist()
        assert isclose(aurc(graded(confidence, error)), brute_aurc(confidence, error),
                       abs_tol=1e-12)


def test_the_order_of_the_test_set_does_not_matter():
    rng = np.random.default_rng(1)
    confidence, error, p = rng.choice(5, 300) / 5, rng.integers(0, 2, 300), rng.permutation(300)
    assert isclose(aurc(graded(confidence, error)), aurc(graded(confidence[p], error[p])),
                   rel_tol=1e-12)


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
        inside = (c > np.float32(low)) & (c <= np.float32(high))
        if inside.any():
            total += inside.mean() * abs(c[inside].astype(float).mean() -
                                         (1 - error[inside]).mean())
    assert isclose(ece(graded(c, error)), total, abs_tol=1e-6)


def test_outcomes_against_loops():
    rng = np.random.default_rng(3)
    # whole numbers: many ties
    logits, labels = rng.integers(-2, 3, (60, 3, 5)).astype('float32'), rng.integers(0, 5, 60)
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
    assert (np.isfinite(o['max_softmax']).all() and o['rank'].tolist() == [299] * 4 and
            o['label'].tolist() == [0, 1, 2, 299])
    assert set(summary(o)) == {'top1', 'top5', 'aurc', 'aurc_softmax', 'e_aurc', 'ece',
                               'prefix', 'step'}


@pytest.mark.parametrize('logits,labels', [
    (np.zeros((3, 4)), [0, 1, 2]), (np.zeros((3, 2, 4)), [0, 1]), (np.zeros((3, 2, 4)), [0, 1, 4]),
    (np.zeros((3, 2, 4)), [0, -1, 2]), (np.full((1, 2, 4), np.nan), [0]), (np.zeros((0, 2, 4)), []),
    (np.zeros((3, 0, 4)), [0, 1, 2])])
def test_outcomes_refuse(logits, labels):
    with pytest.raises(UserError): outcomes(logits, np.array(labels, int))


def test_no_torch():
    code = ('import sys, snn_repro.metrics.classification, snn_repro.analysis.stats, '
            'snn_repro.analysis.tables, snn_repro.analysis.figures; '
            'sys.exit("torch" in sys.modules)')
    assert subprocess.run([sys.executable, '-c', code]).returncode == 0


def brute_exit(logits, labels, threshold):
    """Step by step as a device would do it, from the logits themselves; the confidence rounded down
    to a byte."""
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
    # float32 may fall on the other side of a whole number
    assert (o['sure'][:, -1] == np.floor(255 * o['max_softmax'].astype(float))).mean() > .98
    np.testing.assert_allclose(np.transpose(early_exit(o, thresholds)),
                               [brute_exit(logits, labels, t) for t in thresholds])


def test_early_exit_between_one_step_and_all():
    o = outcomes(np.random.default_rng(5).normal(0, 3, (200, 4, 10)), np.arange(200) % 10)
    steps, right = early_exit(o, [0, 1.001, 9])
    assert (steps.tolist() == [1, 4, 4] and
            right.tolist() == [prefix_accuracy(o)[0], accuracy(o), accuracy(o)])
    assert (np.diff(early_exit(o, np.arange(257) / 255)[0]) >= 0).all()
    certain = outcomes(np.full((3, 2, 4), 500.) * np.eye(4)[0], [0, 0, 1])
    assert early_exit(certain, [1])[0] == 1 and early_exit(certain, [1.001])[0] == 2


def test_early_exit_needs_the_confidences():
    o = outcomes(np.zeros((3, 2, 4)), [0, 1, 2])
    del o['sure']
    with pytest.raises(UserError, match='how sure'): early_exit(o, [.5])


# ---------------------------------------------------------------- what people give them

def told(call, *words):
    with pytest.raises(UserError) as e: call()
    line = str(e.value)
    assert '\n' not in line and len(line) < 250 and all(w in line for w in words), line


def exact_ece(ks, errors, bins):
    """The definition in fractions.
    Image i is as sure as 1/ks[i] exactly, and bins are closed on the right."""
    groups = {}
    for k, error in zip(ks, errors):
        ceiling = -(-bins // k)
        groups.setdefault(ceiling, []).append(Fraction(1, k) - (1 - error))
    return float(sum(abs(sum(g)) for g in groups.values()) / len(ks))


@pytest.mark.parametrize('bins', [1, 2, 3, 5, 7, 10, 15, 20, 100])
def test_a_confidence_on_the_edge_of_a_bin_is_in_the_lower_one(bins):
    """From logits: the first image is not sure of any of K classes.
    So its softmax is 1/K, at times an edge."""
    rng = np.random.default_rng(bins)
    ks, errors = rng.integers(1, 101, 400), rng.integers(0, 2, 400)
    made = [outcomes(np.zeros((1, 1, k)), [int(e) if k > 1 else 0]) for k, e in zip(ks, errors)]
    errors = [int(o['prefix'][0, -1] != o['label'][0]) for o in made]
    together = {name: np.concatenate([o[name] for o in made])
                for name in ('label', 'prefix', 'max_softmax')}
    assert isclose(ece(together, bins), exact_ece(ks.tolist(), errors, bins), abs_tol=1e-6)


@pytest.mark.parametrize('K,bins', [(3, 15), (5, 15), (15, 15), (10, 10)])
def test_two_bins_that_were_one(K, bins):
    """Half of the images on the edge, all wrong; half a little above it, all right.
    Apart they are far off, together they seem calibrated."""
    o = graded([1 / K] * 10 + [1 / K + .01] * 10, [1] * 10 + [0] * 10)
    assert isclose(ece(o, bins), .5 / K + .5 * (1 - 1 / K - .01), abs_tol=1e-6)


@pytest.mark.parametrize('dtype', ['float16', 'bfloat16', 'float32', 'float64', 'int64'])
def test_tensors(dtype):
    import torch
    z = torch.randn(40, 3, 5, generator=torch.Generator().manual_seed(0)) * 4
    z = z.to(getattr(torch, dtype))
    y = torch.arange(40) % 5
    plain = outcomes(z.double().numpy(), y.numpy())
    asks = z.clone().requires_grad_() if z.is_floating_point() else z
    other = z.transpose(0, 1).contiguous().transpose(0, 1)
    for logits, labels in ((z, y), (asks, y), (asks * 1, y.int()), (other, y.tolist())):
        got = outcomes(logits, labels)
        assert all(np.array_equal(got[k], plain[k]) for k in plain)
    told(lambda: outcomes(z.to('meta'), y), 'outcomes')
    assert separation(z.float().mean(1), y) == separation(z.float().mean(1).numpy(), y.numpy())


@pytest.mark.parametrize('logits,labels,word', [
    (np.zeros((2, 1, 3)), [0., 1.], 'whole'), (np.zeros((2, 1, 3)), [True, False], 'whole'),
    (np.zeros((2, 1, 3)), ['a', 'b'], 'labels'), (np.zeros((2, 1, 3)), None, 'labels'),
    (np.zeros((2, 1, 3)), [[0, 1, 0], [1, 0, 0]], 'fit'), (np.zeros((2, 1, 0)), [0, 1], 'fit'),
    ([[[0, 1]], [[0]]], [0, 1], 'logits'), (np.zeros((2, 1, 3), complex), [0, 1], 'numbers'),
    (np.zeros((2, 1, 3), object), [0, 1], 'numbers'),
    (np.full((2, 1, 3), np.inf), [0, 1], 'finite'),
    (np.array([[[1e39, 0]], [[2e39, 0]]]), [0, 1], 'float32'),
    (np.array([[[-1e39, 0]], [[1, 0]]]), [0, 1], 'float32'),
    (np.ma.masked_greater(np.arange(6.).reshape(2, 1, 3), 4), [0, 1], 'masked'),
    (np.zeros((2, 1, 3)), np.ma.masked_equal([0, 1], 1), 'masked')])
def test_what_outcomes_refuse_in_one_line(logits, labels, word):
    told(lambda: outcomes(logits, labels), 'outcomes', word)


def test_logits_up_to_the_end_of_float32_make_no_ties():
    largest = float(np.finfo('f4').max)
    o = outcomes(np.array([[[largest, 0.]], [[largest / 2, 0.]]]), [1, 0])
    assert len(set(o['max_logit'])) == 2 and aurc(o) == 0.75
    covers_nothing = np.ma.masked_greater(np.eye(3)[:, None], 5)
    assert accuracy(outcomes(covers_nothing, [0, 1, 2])) == 1


def test_metrics_of_something_else():
    z = np.zeros((4, 2, 3))
    for f in (accuracy, aurc, e_aurc, ece, prefix_accuracy, step_accuracy, class_accuracy, summary,
              risk_coverage, lambda o: top_k(o, 1), lambda o: early_exit(o, [.5])):
        for wrong in (z, [1, 2], None, 'text'): told(lambda: f(wrong), 'expected outcomes')
        told(lambda: f({}))
    o = outcomes(z, [0, 1, 2, 0])
    for call in (lambda: ece(o, 0), lambda: ece(o, 2.5), lambda: aurc(o, 'entropy'),
                 lambda: class_accuracy(o, 2), lambda: early_exit(o, [np.nan]),
                 lambda: aurc(o | {'max_logit': o['max_logit'] * np.nan}),
                 lambda: ece(o | {'max_softmax': o['max_softmax'] + np.inf}),
                 lambda: separation(z, [0, 1, 2, 0]),
                 lambda: separation(np.full((4, 2), np.nan), [0, 1, 2, 0]),
                 lambda: separation(np.zeros((4, 2)), [-1, 0, 1, 2])):
        told(call)


@fuzz(2000)
@given(shape=st.tuples(*[st.integers(0, 3)]*3),
       dtype=st.sampled_from(['f2', 'f4', 'f8', 'i1', 'u4', '?', 'c8', 'O', 'M8[s]']),
       seed=st.integers(0, 99),
       large=st.sampled_from([1., 1., 1., 1e30, 1e39, np.inf, np.nan]),
       label=st.sampled_from(['fine', 'fine', 'fine', 'float', 'short', 'above', 'below',
                              'shares']))
def test_the_right_numbers_or_one_line(shape, dtype, seed, large, label):
    rng, (n, t, k) = np.random.default_rng(seed), shape
    with np.errstate(all='ignore'):
        if dtype == 'M8[s]': z = np.zeros(shape, dtype)
        else: z = (rng.normal(size=shape) * 3).astype(dtype)
        if z.dtype.kind == 'f': z = (z * np.array(large).astype(dtype)).astype(dtype)
    y = rng.integers(0, max(k, 1), n)
    labels = {'float': y.astype(float), 'short': y[1:], 'above': y + k, 'below': y - k,
              'shares': np.zeros((n, k))}.get(label, y)
    right = z.dtype.kind in 'iuf' and z.size and label == 'fine'
    if right:
        values = z.astype(float)
        right = np.isfinite(values).all() and abs(values).max() <= np.finfo('f4').max
    try: o = outcomes(z, labels)
    except UserError as e:
        assert not right and '\n' not in str(e) and len(str(e)) < 300
        return
    assert right
    means = z.astype(float).mean(1)
    assert (o['prefix'][:, -1] == means.argmax(1)).all()
    assert isclose(accuracy(o), (means.argmax(1) == y).mean())
    assert all(0 <= v <= 1 for v in (accuracy(o), aurc(o), ece(o)))
