"""Every loss term against a plain reference written from its formula: NumPy loops in float64,
gradients by central differences."""
import itertools
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given as tried
from hypothesis import strategies as st
from torch import nn

from conftest import fuzz
from snn_repro.analysis.exhibits import asked
from snn_repro.core.spec import Spec, UserError, variant
from snn_repro.experiments.experiment import Experiment
from snn_repro.experiments.tiers import find_tier
from snn_repro.losses.agreement import ETC, TWKD_ANN, TWKD_SELF, Agreement
from snn_repro.losses.inputs import check_labels
from snn_repro.losses.laf import LAF, seen_through
from snn_repro.losses.objectives import (CE, KD, LTS, TET, Objective, Teacher, check_objectives,
                                         mean_logits, soft_kl, total)
from snn_repro.losses.pairs import Pair, pick_pairs, running_mean
from snn_repro.losses.tks import TKS, fitting_loss, pick_steps, teacher_of
from snn_repro.nn.layers import Output

T, B, K, D = 3, 4, 3, 7


def draw(*shape, seed=0, scale=1.):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed),
                               dtype=torch.float64)


def batch():
    "Logits with none, one, two and three right steps among the samples."
    logits, target = draw(T, B, K), torch.tensor([0, 1, 2, 0])
    for b, right in enumerate([0, 1, 2, 3]):
        for t in range(T): logits[t, b, target[b]] = (4. if t < right else -4.) + .3 * t
    return logits, target


def loss_of(term, logits, target, progress=(0, 1), teacher=None):
    return sum(term(Output(logits, None), target, progress, teacher).values())


def gradient(term, logits, target, progress=(0, 1), teacher=None):
    o = logits.clone().requires_grad_()
    return torch.autograd.grad(loss_of(term, o, target, progress, teacher), o)[0].numpy()


def slope(f, x, h=1e-5):
    "The gradient of `f` at the array `x` by central differences."
    g = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[i] += h; down[i] -= h
        g[i] = (f(up) - f(down)) / (2 * h)
    return g


# ---------------------------------------------------------------- plain references

def soft(z):
    e = np.exp(z - z.max())
    return e / e.sum()


def plain_teacher(o, y, teaches, p):
    """q of one sample: `o [T,K]`, its label, and which steps teach. None where the sample is
    skipped."""
    chosen = [o[t] for t in range(len(o)) if teaches[t]]
    if not chosen:
        return {'uniform': np.full(o.shape[1], 1 / o.shape[1]), 'label': np.eye(o.shape[1])[y],
                'skip': None}[p.none_correct]
    if p.combine == 'sum': return soft(sum(chosen) / p.temperature)
    if p.combine == 'mean': return soft(sum(chosen) / len(chosen) / p.temperature)
    return sum(soft(c / p.temperature) for c in chosen) / len(chosen)


def plain_tks(o, target, teaches, p, epoch, epochs, q_from=None):
    """(CE part, fitting part) of TKS for `o [T,B,K]`; the teacher is read from `q_from` where it
    shall be a constant."""
    w = p.peak * {'epoch': epoch / epochs, 'end': epoch / (epochs - 1), 'constant': 1}[p.ramp]
    ce = fit = 0.
    for b, y in enumerate(target):
        ce -= np.log(soft(o[:, b].mean(0))[y])
        q = plain_teacher((o if q_from is None else q_from)[:, b], y, teaches[:, b], p)
        for t in range(len(o)):
            log_p = np.log(soft(o[t, b]))
            if q is not None: fit -= sum(q[i] * log_p[i] for i in range(o.shape[2]))
    n = len(target)
    return (1 - w) * ce / n, w * (p.temperature**2 if p.squared else 1) * fit / (n * len(o))


SWITCHES = [dict(zip(('combine', 'none_correct', 'select', 'squared', 'detach_teacher', 'ramp'), v))
            for v in itertools.product(
                ('sum', 'mean', 'prob'), ('uniform', 'label', 'skip'), ('correct', 'all', 'random'),
                (True, False), (True, False), ('epoch', 'end', 'constant'))]


@pytest.mark.parametrize('select', ['correct', 'all', 'random'])
@pytest.mark.parametrize('combine', ['sum', 'mean', 'prob'])
def test_tks_is_its_formula_under_every_switch(combine, select):
    logits, target = batch()
    o, y = logits.numpy(), target.tolist()
    for s in SWITCHES:
        if (s['combine'], s['select']) != (combine, select): continue
        p = TKS(temperature=2.5, peak=.6, **s)
        teaches = {'correct': o.argmax(-1) == np.array(y), 'all': np.ones((T, B), bool),
                   'random': pick_steps(logits, target, 'random', 3).numpy()}[select]
        parts = p(Output(logits, None), target, (3, 5))
        ce, fit = plain_tks(o, y, teaches, p, 3, 5)
        np.testing.assert_allclose([parts['ce'].item(), parts['tks'].item()], [ce, fit], rtol=1e-10,
                                   err_msg=str(s))
        reference = slope(lambda x: sum(plain_tks(x, y, teaches, p, 3, 5,
                                                  o if p.detach_teacher else None)), o)
        np.testing.assert_allclose(gradient(p, logits, target, (3, 5)), reference, rtol=1e-5,
                                   atol=1e-7, err_msg=str(s))


def test_teacher_gradient_differs_where_a_step_teaches():
    logits, target = batch()
    attached, detached = (gradient(TKS(detach_teacher=d), logits, target, (1, 2))
                          for d in (False, True))
    teaches = pick_steps(logits, target).numpy()
    apart = np.abs(attached - detached).max(-1)
    assert (apart[teaches] > 1e-3).all() and (apart[~teaches] < 1e-12).all()
    assert loss_of(TKS(), logits, target, (1, 2)) == loss_of(TKS(detach_teacher=True), logits,
                                                             target, (1, 2))


def test_tks_identities():
    logits, target = batch()
    label = F.one_hot(target, K)
    sure, wrong = logits + 30 * label, logits - 30 * label
    everyone = pick_steps(sure, target)
    assert everyone.all() and not pick_steps(wrong, target).any()
    # (i)
    torch.testing.assert_close(teacher_of(sure, everyone, float(T)), mean_logits(sure).softmax(-1))
    uniform = -16 * wrong.log_softmax(-1).mean()
    tks = TKS(temperature=4., peak=1., ramp='constant')
    torch.testing.assert_close(tks(Output(wrong, None), target)['tks'], uniform)        # (ii)
    # (iii)
    torch.testing.assert_close(loss_of(TKS(peak=0.), logits, target, (4, 5)),
                               F.cross_entropy(logits.mean(0), target))
    o = sure[0]
    alone = 9 * F.cross_entropy(o, (o / 3).softmax(-1))
    tks = TKS(peak=1., ramp='constant')
    torch.testing.assert_close(tks(Output(o[None], None), target)['tks'], alone)        # (iv)


def test_random_teachers_are_as_many_and_repeat():
    logits, target = draw(6, 50, 4, seed=1), torch.arange(50) % 4
    right, drawn = (pick_steps(logits, target, s, 2) for s in ('correct', 'random'))
    assert torch.equal(right.sum(0), drawn.sum(0)) and not torch.equal(right, drawn)
    state = torch.get_rng_state()
    assert (torch.equal(drawn, pick_steps(logits, target, 'random', 2)) and
            torch.equal(state, torch.get_rng_state()))
    assert not torch.equal(drawn, pick_steps(logits, target, 'random', 3))


@pytest.mark.parametrize('ramp,last', [('epoch', .7 * 9 / 10), ('end', .7)])
def test_ramp(ramp, last):
    w = [TKS(ramp=ramp).weight(e, 10) for e in range(10)]
    assert w[0] == 0 and w[-1] == pytest.approx(last) and np.allclose(np.diff(w), w[1])
    assert TKS(ramp=ramp).weight(0, 1) == 0 and TKS(ramp='constant').weight(0, 1) == .7


def test_paper_variant_changes_four_fields_and_reads_back():
    paper = variant(TKS(temperature=5., peak=.3), 'paper')
    assert paper == TKS(temperature=5., peak=.3, combine='mean', detach_teacher=True, squared=False,
                        ramp='end')
    assert TKS.from_dict(paper.to_dict()) == paper and paper.key != TKS(temperature=5., peak=.3).key


# -------------------------------------------------------- cross-entropy, TET, distillation, L_AF

@pytest.mark.parametrize('smoothing', [0., .1, .5])
def test_ce_and_label_smoothing(smoothing):
    logits, target = batch()
    expected = nn.CrossEntropyLoss(label_smoothing=smoothing)(logits.mean(0), target)
    torch.testing.assert_close(CE(smoothing=smoothing)(Output(logits, None), target)['ce'],
                               expected)
    p = np.array([soft(o) for o in logits.mean(0).numpy()])
    by_hand = np.mean([-(1 - smoothing) * np.log(p[b, y]) - smoothing * np.log(p[b]).mean()
                       for b, y in enumerate(target.tolist())])
    assert expected.item() == pytest.approx(by_hand)


@pytest.mark.parametrize('mse_weight,mse_target', [(0., 1.), (.05, 1.), (.5, .3)])
def test_tet(mse_weight, mse_target):
    logits, target = batch()
    def plain(o):
        ce = -np.mean([np.log(soft(o[t, b])[y]) for t in range(T)
                       for b, y in enumerate(target.tolist())])
        return (1 - mse_weight) * ce + mse_weight * np.mean((o - mse_target)**2)
    term = TET(mse_weight=mse_weight, mse_target=mse_target)
    assert loss_of(term, logits, target).item() == pytest.approx(plain(logits.numpy()))
    np.testing.assert_allclose(gradient(term, logits, target), slope(plain, logits.numpy()),
                               rtol=1e-5, atol=1e-8)
    assert set(term(Output(logits, None), target)) == ({'tet', 'mse'} if mse_weight else {'tet'})


def ann(steps=1):
    "A teacher that answered `steps` frames, everything asking for a gradient."
    layer = nn.Linear(D, K).double()
    layer.weight.data, layer.bias.data = draw(K, D, seed=2), draw(K, seed=3)
    features = draw(steps, B, D, seed=4).requires_grad_()
    return Teacher(layer(features), features, layer)


def kl_div(student, teacher, temperature):
    return temperature**2 * F.kl_div(F.log_softmax(student / temperature, -1),
                                     F.softmax(teacher / temperature, -1), reduction='batchmean')


@pytest.mark.parametrize('steps', [1, 5])
@pytest.mark.parametrize('temperature', [1., 20.])
def test_kd(steps, temperature):
    (logits, target), teacher = batch(), ann(steps)
    o = logits.clone().requires_grad_()
    got = KD(weight=.3, temperature=temperature)(Output(o, None), target, teacher=teacher)['kd']
    torch.testing.assert_close(got,
                               .3 * kl_div(o.mean(0), teacher.logits.mean(0).detach(), temperature))
    got.backward()
    assert (teacher.features.grad is None and teacher.classifier.weight.grad is None and
            o.grad.abs().max() > 0)


@pytest.mark.parametrize('steps', [1, 5])
@pytest.mark.parametrize('temperature', [1., 20.])
@pytest.mark.parametrize('per_step', [False, True])
def test_laf(steps, temperature, per_step):
    (_, target), teacher = batch(), ann(steps)
    f = draw(T, B, D, seed=5).requires_grad_()
    got = LAF(weight=.3, temperature=temperature,
              per_step=per_step)(Output(None, f), target, teacher=teacher)['laf']
    answer = teacher.classifier(teacher.features.mean(0)).detach()
    each = [kl_div(teacher.classifier(g), answer, temperature)
            for g in (f if per_step else f.mean(0, keepdim=True))]
    torch.testing.assert_close(got, .3 * sum(each) / len(each))
    reference, = torch.autograd.grad(.3 * sum(each) / len(each), f)
    got.backward()
    torch.testing.assert_close(f.grad, reference)
    assert (teacher.features.grad is None and
            all(p.grad is None for p in teacher.classifier.parameters()))


def test_laf_is_zero_for_equal_features_and_works_without_a_bias():
    (_, target), teacher = batch(), ann()
    bare = nn.Linear(D, K, bias=False).double()
    for t in (teacher, teacher._replace(classifier=bare)):
        assert LAF()(Output(None, t.features), target, teacher=t)['laf'].abs() < 1e-12


# ---------------------------------------------------------------- sums and refusals

def test_total_adds_the_parts_and_every_part_is_named():
    (logits, target), teacher = batch(), ann()
    out = Output(logits, draw(T, B, D, seed=5))
    for terms in [(CE(),), (TET(mse_weight=.1), KD()), (TKS(), LAF()), (CE(), LAF(), KD())]:
        loss, parts = total(terms, out, target, (1, 2), teacher)
        torch.testing.assert_close(loss, sum(parts.values()))
        assert set(parts) <= {n for o in terms for n in o.parts}


@pytest.mark.parametrize('make', [
    lambda: check_objectives(()), lambda: check_objectives((CE(), TKS())),
    lambda: check_objectives((CE(), CE(smoothing=.1))),
    lambda: CE(smoothing=1.), lambda: TET(mse_weight=2.), lambda: KD(weight=-1.),
    lambda: LAF(temperature=0.),
    lambda: TKS(temperature=0.), lambda: TKS(peak=1.1), lambda: TKS(combine='max'),
    lambda: TKS(select='none'),
    lambda: KD()(Output(*(draw(T, B, K),) * 2), batch()[1]),
    lambda: LAF()(Output(*(draw(T, B, K),) * 2), batch()[1]),
    lambda: TKS()(Output(draw(T, B, K), None), draw(B, K), (0, 1))])
def test_refusals(make):
    with pytest.raises(UserError): make()


def test_terms_are_settings():
    for term in [CE(smoothing=.1), TET(mse_weight=.1), KD(), LAF(per_step=True),
                 TKS(select='random')]:
        assert Spec.from_dict(term.to_dict()) == term


# ------------------------------------------- what people give a term, and what they are told

def told(call, *words):
    "The one line that `call` is refused with; it holds every one of `words`."
    with pytest.raises(UserError) as e: call()
    line = str(e.value)
    assert '\n' not in line and len(line) < 250 and all(w in line for w in words), line
    return line


TERMS = [CE(), CE(smoothing=.1), TET(), TET(mse_weight=.1), TKS(), TKS(select='random'),
         TKS(ramp='end'), KD(), LAF(), LAF(per_step=True), TET(smoothing=.1), LTS(), ETC,
         TWKD_SELF, TWKD_ANN, Agreement(ramp='end', select='random'), Pair(),
         Pair(of='running', pick='random')]
READS_LABELS = [t for t in TERMS if not t.needs_teacher and t != Pair()]
COUNTS = [t for t in TERMS if getattr(t, 'ramp', 'constant') != 'constant'
          or 'random' in (getattr(t, 'select', ''), getattr(t, 'pick', ''))]


def call(term, out=None, target=None, progress=(1, 4), teacher=None):
    out = Output(batch()[0], draw(T, B, D, seed=5)) if out is None else out
    if term.needs_teacher and teacher is None: teacher = ann()
    return sum(term(out, batch()[1] if target is None else target, progress, teacher).values())


def test_laf_of_a_teacher_that_answers_once():
    """Plain features [B,D] are one answer for each sample.
    Their mean over the batch is another loss."""
    (_, target), teacher, student = batch(), ann(), draw(T, B, D, seed=5)
    for per_step in (False, True):
        term = LAF(weight=1., temperature=2., per_step=per_step)
        right = term(Output(None, student), target, teacher=teacher)['laf']
        once = teacher._replace(features=teacher.features[0])
        plain = term(Output(None, student), target, teacher=once)['laf']
        answer = teacher.classifier(teacher.features[0].mean(0)).expand(B, -1)
        mixed = [kl_div(teacher.classifier(s), answer, 2.)
                 for s in (student if per_step else student.mean(0, keepdim=True))]
        assert torch.equal(plain, right) and abs(right - sum(mixed) / len(mixed)) > .05
    logits = batch()[0]
    once = teacher._replace(logits=teacher.logits[0])
    assert torch.equal(KD()(Output(logits, None), target, teacher=once)['kd'],
                       KD()(Output(logits, None), target, teacher=teacher)['kd'])


@pytest.mark.parametrize('change', [
    dict(features=draw(1, B, D + 1)), dict(features=draw(1, B + 1, D)),
    dict(features=draw(B + 1, D)), dict(features=draw(1, 1, D)), dict(features=draw(0, B, D)),
    dict(features=draw(B, D).long()), dict(features=None), dict(features=draw(B, D).numpy()),
    dict(features=draw(B, D).to('meta')), dict(classifier=nn.Linear(D + 1, K).double()),
    dict(classifier=nn.Sequential(nn.Linear(D, K)).double()), dict(classifier=None),
    dict(classifier=nn.Linear(D, K, device='meta'))])
def test_teachers_that_laf_refuses(change):
    told(lambda: call(LAF(), teacher=ann()._replace(**change)))


@pytest.mark.parametrize('change', [
    draw(1, B, K + 1), draw(B, K + 1), draw(B + 1, K), draw(1, 1, K), draw(1, B, 1), draw(0, B, K),
    draw(K), draw(B, K).long(), None, draw(B, K).numpy(), draw(B, K).to('meta')])
def test_teachers_that_kd_refuses(change):
    told(lambda: call(KD(), teacher=ann()._replace(logits=change)), 'KD')


def test_what_is_no_teacher():
    for term in (KD(), LAF()):
        for wrong in (nn.Linear(D, K), ann().logits, Output(batch()[0], None)):
            told(lambda: call(term, teacher=wrong), 'Teacher', type(term).__name__)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_a_teacher_of_another_precision(dtype):
    teacher, student = ann(), draw(T, B, D, seed=5).float()
    other = Teacher(teacher.logits.to(dtype), teacher.features.to(dtype), nn.Linear(D, K).to(dtype))
    other.classifier.load_state_dict(teacher.classifier.state_dict())
    for term, out in ((LAF(), Output(None, student)), (KD(), Output(batch()[0].float(), None))):
        near = term(out, batch()[1], teacher=other)
        exact = Output(*(v if v is None else v.double() for v in out))
        same = term(exact, batch()[1], teacher=teacher)
        rtol = .1 if dtype == torch.bfloat16 else .02
        for k in near: torch.testing.assert_close(near[k].double(), same[k], rtol=rtol, atol=0)


@pytest.mark.parametrize('progress', [
    (200, 100), (100, 100), (1, 1), (0, 0), (-1, 10), (.5, 10), (3,), 3, (1, 2, 3), 'ab',
    (float('nan'), 3), (torch.tensor(1), torch.tensor(5))])
def test_progress_out_of_range(progress):
    logits, target = batch()
    told(lambda: TKS()(logits, target, progress), 'TKS: progress', 'counted from 0')
    told(lambda: TKS(ramp='constant')(logits, target, progress), 'progress')
    told(lambda: total((CE(),), logits, target, progress), 'progress')


def test_progress_left_out():
    for term in TERMS:
        if term in COUNTS: told(lambda: call(term, progress=None), type(term).__name__, 'progress')
        else: assert call(term, progress=None) == call(term)
    told(lambda: total((TKS(),), Output(*(draw(T, B, K),) * 2), batch()[1]), 'progress')
    assert call(TKS(ramp='constant'), progress=None) == call(TKS(ramp='constant'))
    told(lambda: call(TKS(ramp='constant', select='random'), progress=None), 'progress')


def test_the_weight_keeps_within_its_peak():
    for ramp in ('epoch', 'end', 'constant'):
        assert all(0 <= TKS(ramp=ramp).weight(e, E) <= .7 for E in (1, 2, 10) for e in range(E))
    for e, E in ((150, 100), (100, 100), (0, 0), (-1, 5)):
        told(lambda: TKS(ramp='end').weight(e, E), 'progress')
    assert TKS().weight(np.int64(5), np.int64(10)) == .35


@pytest.mark.parametrize('term', READS_LABELS, ids=repr)
def test_labels(term):
    logits, target = batch()
    for dtype in (torch.int8, torch.int16, torch.int32, torch.uint8, torch.uint16, torch.uint32,
                  torch.uint64):
        assert call(term, target=target.to(dtype)) == call(term)
    for wrong, word in ((-100, '-100'), (-1, '-1'), (K, f'label {K}')):
        told(lambda: call(term, target=torch.full((B,), wrong)), type(term).__name__, word)
        one = target.clone()
        one[1] = wrong
        told(lambda: call(term, target=one), word)
    for wrong in (target[:-1], target[None], target[:, None], target[0], target.double(),
                  target > 0, F.one_hot(target, K), target.numpy(), target.tolist(),
                  target.to('meta'), target + 0j, draw(B, K + 1).softmax(-1), 'labels'):
        told(lambda: call(term, target=wrong), type(term).__name__)
    told(lambda: term(Output(logits, None), None, (0, 1)), 'labels')


def test_distillation_needs_no_labels():
    for term in (KD(), LAF(), LAF(per_step=True), TWKD_ANN, Pair()):
        targets = (torch.full((B,), -100), draw(B, 2), 'none')
        assert all(call(term, target=y) == call(term) for y in targets)
        out = Output(batch()[0], draw(T, B, D, seed=5))
        assert total((term,), out, None, None, ann())[0] == call(term)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_soft_labels(dtype):
    logits, target = batch()
    shares = draw(B, K, seed=9).softmax(-1).to(dtype)
    p, q = np.log([[soft(o) for o in step] for step in logits.numpy()]), shares.double().numpy()
    assert call(TET(), target=shares).item() == pytest.approx(-(p * q).sum(-1).mean())
    mean = np.log([soft(o) for o in logits.mean(0).numpy()])
    assert call(CE(), target=shares).item() == pytest.approx(-(mean * q).sum(-1).mean())
    for term in (TKS(), ETC):
        told(lambda: call(term, target=shares), type(term).__name__, 'class numbers')
    assert call(LTS(), target=shares).item() == pytest.approx(-(p[-1] * q).sum(-1).mean())
    for wrong in (shares * 2, shares - 1, shares * float('nan')):
        told(lambda: call(CE(), target=wrong), 'CE', 'shares')
    hard = F.one_hot(target, K).to(dtype)
    for term in (CE(), CE(smoothing=.1), TET(mse_weight=.1)):
        torch.testing.assert_close(call(term, target=hard), call(term))


@pytest.mark.parametrize('term', TERMS, ids=repr)
def test_what_stands_in_place_of_an_output(term):
    logits, features = batch()[0], draw(T, B, D, seed=5)
    if isinstance(term, LAF): told(lambda: call(term, logits), 'LAF', 'features')
    else: assert call(term, logits) == call(term)
    for wrong in (logits.numpy(), [logits], 'logits', nn.Linear(2, 2)):
        told(lambda: call(term, wrong), 'Output')
    for change in (lambda x: x[0], lambda x: x[None], lambda x: x[:0], lambda x: x[:, :0],
                   lambda x: x[..., :0], lambda x: x.long(), lambda x: x.bool(), lambda x: x + 0j,
                   lambda x: x.numpy(), lambda x: x.tolist(), lambda x: None):
        told(lambda: call(term, Output(change(logits), change(features))))


@pytest.mark.parametrize('term', READS_LABELS, ids=repr)
def test_samples_before_steps(term):
    told(lambda: call(term, Output(batch()[0].transpose(0, 1), None)), '[B,T,K]', 'transpose')


@pytest.mark.parametrize('term', TERMS, ids=repr)
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_loses_the_inputs_digits_and_no_more(term, dtype):
    coarse = [x.to(dtype) for x in (batch()[0], draw(T, B, D, seed=5))]
    got = call(term, Output(*coarse))
    assert got.dtype == (torch.float64 if term.needs_teacher else torch.float32)
    exact = call(term, Output(*(x.double() for x in coarse)))
    # the square of a temperature magnifies roundings, too
    squared = getattr(term, 'temperature', 1)**2
    torch.testing.assert_close(got.double(), exact, rtol=1e-5, atol=max(1e-6, 5e-8*squared))


def test_the_functions_below_the_terms():
    logits, target = batch()
    mask = pick_steps(logits, target)
    for wrong in (logits[0], logits.long(), logits.numpy(), logits[:0]):
        for f in (mean_logits, lambda x: pick_steps(x, target), lambda x: teacher_of(x, mask, 3.),
                  lambda x: fitting_loss(TKS(), x, target), lambda x: pick_pairs(x, target),
                  running_mean):
            told(lambda: f(wrong), 'logits')
    told(lambda: teacher_of(logits, mask.T, 3.), 'mask')
    told(lambda: soft_kl(logits[0], logits[0, :1], 1.), 'soft_kl')
    told(lambda: seen_through(nn.Linear(D, K), draw(B, D + 1)), 'classifier')


def test_a_check_waits_for_no_device_that_has_no_values():
    logits, target = draw(T, B, K).to('meta'), torch.zeros(B, dtype=torch.int64, device='meta')
    check_labels(target, K, 'here')
    for term in (CE(), TET(), TKS()):
        parts = term(Output(logits, None), target, (1, 4))
        assert all(v.shape == () for v in parts.values())
    told(lambda: CE()(Output(logits, None), batch()[1]), 'meta', 'cpu')


def test_each_sample_by_itself_under_vmap():
    logits, target = batch()
    loss = lambda o, y: TKS()(Output(o[:, None], None), y[None], (1, 2))
    rows = torch.func.vmap(loss, in_dims=(1, 0))(logits, target)
    whole = TKS()(Output(logits, None), target, (1, 2))
    for k in ('ce', 'tks'): torch.testing.assert_close(rows[k].mean(), whole[k])


@pytest.mark.parametrize('terms', [
    (CE(smoothing=.1),), (TET(mse_weight=.1), KD()), (TKS(), LAF()), (variant(TKS(), 'paper'),),
    (LTS(), ETC)], ids=str)
def test_nothing_is_checked_while_compiling(terms):
    "One graph, the same loss and gradients."
    target = batch()[1]
    def loss(o, f, teacher): return total(terms, Output(o, f), target, (1, 4), teacher)[0]
    torch._dynamo.reset()
    ways = []
    for f in (loss, torch.compile(loss, backend='aot_eager', fullgraph=True)):
        x = [v.clone().requires_grad_() for v in (batch()[0], draw(T, B, D, seed=5))]
        value = f(*x, ann())
        ways.append([value, *torch.autograd.grad(value, x, allow_unused=True)])
    for a, b in zip(*ways): assert a is b is None or torch.allclose(a, b, rtol=1e-12)


# ---------------------------------------------------------------- terms that are none

@dataclass(frozen=True, kw_only=True)
class Mine(Objective):
    "A term of one's own that returns `Mine.says(logits)`."
    parts = ('mine',)
    says = staticmethod(lambda logits: {'mine': logits.mean()})
    def __call__(self, out, target, progress=None, teacher=None): return self.says(out.logits)


@pytest.mark.parametrize('terms,words', [
    (lambda: [CE()], 'tuple of terms, found list'), (lambda: CE(), 'tuple of terms, found CE'),
    (lambda: {'ce': CE()}, 'found dict'), (lambda: None, 'tuple'), (lambda: (CE,), 'write CE()'),
    (lambda: (F.cross_entropy,), 'cross_entropy is no Objective'),
    (lambda: (nn.CrossEntropyLoss(),), 'CrossEntropyLoss is no Objective'),
    (lambda: (nn.CrossEntropyLoss,), 'CrossEntropyLoss is no Objective (derive'),
    (lambda: ((CE(),),), 'tuple is no Objective'),
    (lambda: (Objective(),), 'says nothing about its loss'),
    (lambda: ('ce',), 'str is no Objective')])
def test_terms_that_are_none(terms, words):
    logits, target = batch()
    told(lambda: total(terms(), Output(logits, None), target, (0, 1)), words)
    told(lambda: check_objectives(terms()), words)
    e = asked('tks-table3-cifar10-resnet19-baseline', find_tier('mini'))[1]
    fields = {f: getattr(e, f) for f in ('data', 'arch', 'T', 'augment', 'recipe')}
    told(lambda: Experiment(**fields, objective=terms()), words)


def test_terms_of_ones_own_and_what_they_return(monkeypatch):
    logits, target = batch()
    own = lambda *more: total((Mine(), *more), Output(logits, None), target.int(), (0, 2))
    assert own()[0] == logits.mean() and set(own(TKS())[1]) == {'mine', 'ce', 'tks'}
    for says in (lambda o: o.mean(), lambda o: {'mine': o}, lambda o: {'mine': .5}, lambda o: {},
                 lambda o: None, lambda o: [o.mean()], lambda o: {'mine': o.mean() + 0j}):
        monkeypatch.setattr(Mine, 'says', staticmethod(says))
        told(own, 'Mine')
    monkeypatch.setattr(Mine, 'says', staticmethod(lambda o: {'ce': o.mean()}))
    told(lambda: own(CE()), "'ce'")                        # written by both, and named by one
    monkeypatch.setattr(Mine, 'parts', 'mine')
    told(own, 'Mine', 'tuple')


# ------------------------ any shape, dtype, label and progress: the right value, or one line

FLOATS = {torch.float16, torch.bfloat16, torch.float32, torch.float64}


def plain(term, o, f, y, progress, teacher):
    """The loss of a term, from the formula, in loops.
    `o [T,B,K]`, `f [T,B,D]`, class numbers or shares, a teacher of arrays."""
    steps, n, k = o.shape
    log = lambda z: np.log(soft(z))
    if teacher:
        theirs, features, weight, bias = teacher
        if isinstance(term, LAF):
            a = features.reshape(-1, *features.shape[-2:]).mean(0) @ weight.T + bias
            each = f if term.per_step else f.mean(0, keepdims=True)
            pairs = [(a[b], weight @ x[b] + bias) for x in each for b in range(n)]
        else: pairs = list(zip(theirs.reshape(-1, *theirs.shape[-2:]).mean(0), o.mean(0)))
        h = term.temperature
        kl = [soft(a / h) @ (log(a / h) - log(s / h)) for a, s in pairs]
        return term.weight * h**2 * np.mean(kl)
    q = np.eye(k)[y] if y.ndim == 1 else y
    if isinstance(term, LTS): return -np.mean([q[b] @ log(o[-1, b]) for b in range(n)])
    if isinstance(term, CE): q = (1 - term.smoothing) * q + term.smoothing / k
    if isinstance(term, CE): return -np.mean([q[b] @ log(o[:, b].mean(0)) for b in range(n)])
    if isinstance(term, TET):
        ce = -np.mean([q[b] @ log(o[t, b]) for t in range(steps) for b in range(n)])
        return (1 - term.mse_weight) * ce + term.mse_weight * np.mean((o - term.mse_target)**2)
    teaches = o.argmax(-1) == y
    w = term.peak
    if term.ramp == 'epoch': w *= progress[0] / progress[1]
    if term.ramp == 'end': w *= progress[0] / max(progress[1] - 1, 1)
    e = [-plain_teacher(o[:, b], y[b], teaches[:, b], term) @ log(o[t, b])
         for t in range(steps) for b in range(n)]
    ce = -np.mean([q[b] @ log(o[:, b].mean(0)) for b in range(n)])
    return (1 - w) * ce + w * term.temperature**2 * np.mean(e)


ONES = st.sampled_from([
    CE(), LTS(), CE(smoothing=.2), TET(), TET(mse_weight=.3), TKS(), TKS(ramp='end'),
    TKS(ramp='constant'), KD(weight=1., temperature=2.), LAF(weight=1., temperature=2.),
    LAF(weight=1., temperature=2., per_step=True)])
KINDS = ['float16', 'bfloat16', 'float32', 'float64'] * 3 + ['int64', 'bool', 'complex64']
SIZES = st.sampled_from([0, 1, 1, 2, 2, 2, 3, 3])


@fuzz(4000)
@tried(term=ONES, t=SIZES, b=SIZES, k=SIZES, d=SIZES, seed=st.integers(0, 99),
       kind=st.sampled_from(KINDS), data=st.data())
def test_the_right_value_or_one_line(term, t, b, k, d, seed, kind, data):
    pick = lambda *v: data.draw(st.sampled_from(v))
    dtype = getattr(torch, kind)
    sizes = [(t, b, k), (t, b, d)]
    o, f = (draw(*s, seed=seed + i, scale=2.).to(dtype) for i, s in enumerate(sizes))
    width = d if isinstance(term, LAF) else k
    right = dtype in FLOATS and t*b*width > 0

    y = torch.arange(b) % max(k, 1)
    label = pick('int64', 'int64', 'int32', 'uint8', 'shares', 'float', 'bool', 'above', 'ignored',
                 'short', 'column')
    targets = {'shares': draw(b, k, seed=seed + 3).softmax(-1).float(), 'float': y.float(),
               'bool': y.bool(), 'short': y[1:], 'column': y[:, None]}
    target = targets.get(label, y.to(getattr(torch, label, torch.int64)))
    if label in ('above', 'ignored'):
        outside = torch.tensor([k if label == 'above' else -100] * min(b, 1), dtype=y.dtype)
        target = torch.cat([y[1:], outside])
    progress = pick((0, 3), (2, 3), (0, 1), (2, 5), None, (3, 3), (-1, 3), (0, 0), (1., 2.))
    if not term.needs_teacher: right = right and label in ('int64', 'int32', 'uint8', 'shares')
    if isinstance(term, TKS):
        known = progress is not None and type(progress[0]) is int and 0 <= progress[0] < progress[1]
        known = known or progress is None and term.ramp == 'constant'
        right = right and label != 'shares' and known

    answers, n, more = pick((), (1,), (2,), (0,), (1, 1)), pick(b, b, b, b + 1), pick(0, 0, 0, 1)
    theirs = draw(*answers, n, k + more, seed=seed + 4)
    features = draw(*answers, n, d + more, seed=seed + 5)
    layer = nn.Linear(max(d, 1), 4)
    teacher = Teacher(theirs, features, layer) if term.needs_teacher else None
    if term.needs_teacher:
        right = right and (n, more) == (b, 0) and len(answers) < 2 and 0 not in answers

    try: got = sum(term(Output(o, f), target, progress, teacher).values())
    except UserError as e:
        assert not right and '\n' not in str(e) and len(str(e)) < 300, str(e)
        return
    assert right, got
    array = lambda x: x.detach().double().numpy()
    said = teacher and [array(theirs), array(features), array(layer.weight), array(layer.bias)]
    truth = array(target) if label == 'shares' else y.numpy()
    reference = plain(term, array(o), array(f), truth, progress, said)
    assert abs(got.item() - reference) <= 1e-4 * (1 + abs(reference))


# ---------------------------------------------------------------- logits alone

ALONE = {'CE': CE(), 'smoothed': CE(smoothing=.1), 'TET': TET(mse_weight=.1), 'LTS': LTS(),
         'TKS': TKS(), 'TKS text': variant(TKS(), 'paper'), 'drawn': TKS(select='random'),
         'ETC': ETC, 'TWKD': TWKD_SELF, 'KD': KD(), 'TWKD_ANN': TWKD_ANN, 'S2W': Pair(),
         'running': Pair(pick='next', of='running')}


@pytest.mark.parametrize('name', ALONE)
def test_logits_alone_are_taken_as_an_output_to_the_bit(name):
    term, (logits, target) = ALONE[name], batch()
    ann = Teacher(draw(1, B, K, seed=2), draw(1, B, D, seed=3), nn.Linear(D, K).double())
    found = []
    for wrapped in (False, True):
        z = logits.clone().requires_grad_()
        parts = term(Output(z, draw(T, B, D)) if wrapped else z, target, (3, 5), ann)
        parts |= {'total': total((term,), z, target, (3, 5), ann)[0]}
        found.append([*parts.values(), *torch.autograd.grad(parts['total'], z)])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize('out, said', [
    (draw(B, K), r'expected \[T,B,K\], found float64 \[4, 3\] \(.*one alone is x\[None\]'),
    ([draw(B, K)], r'expected logits or an Output, found list \(torch.stack'),
    ((draw(T, B, K), None), r'expected logits or an Output, found tuple \(torch.stack'),
    (draw(T, B, K).numpy(), r'found ndarray \[3, 4, 3\] \(give logits \[T,B,K\] as a tensor'),
    (None, 'expected logits or an Output, found NoneType'),
    (draw(T, B, K).transpose(0, 1), r'are these logits \[B,T,K\]\?')])
@pytest.mark.parametrize('term', [CE(), TKS(), ETC], ids=lambda t: type(t).__name__)
def test_what_are_no_logits_is_told(term, out, said):
    with pytest.raises(UserError, match=f'^{type(term).__name__}: .*{said}'):
        term(out, torch.tensor([0, 1, 2, 0]), (0, 1))


def test_features_are_not_to_be_had_from_logits_alone():
    ann = Teacher(draw(1, B, K), draw(1, B, D), nn.Linear(D, K).double())
    for out in (draw(T, B, K), Output(draw(T, B, K), None)):
        with pytest.raises(UserError, match='^LAF: .*logits alone .give Output'):
            LAF()(out, torch.tensor([0, 1, 2, 0]), teacher=ann)
