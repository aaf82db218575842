"Every loss term against a plain reference written from its formula: NumPy loops in float64, gradients by central differences."
import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from snn_repro.laf import LAF
from snn_repro.layers import Output
from snn_repro.objectives import CE, KD, TET, Teacher, check_objectives, mean_logits, total
from snn_repro.spec import Spec, UserError, variant
from snn_repro.tks import TKS, pick_steps, teacher_of

T, B, K, D = 3, 4, 3, 7


def draw(*shape, seed=0, scale=1.):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


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
    "q of one sample: `o [T,K]`, its label, and which steps teach. None where the sample is skipped."
    chosen = [o[t] for t in range(len(o)) if teaches[t]]
    if not chosen: return {'uniform': np.full(o.shape[1], 1 / o.shape[1]), 'label': np.eye(o.shape[1])[y], 'skip': None}[p.none_correct]
    if p.combine == 'sum': return soft(sum(chosen) / p.temperature)
    if p.combine == 'mean': return soft(sum(chosen) / len(chosen) / p.temperature)
    return sum(soft(c / p.temperature) for c in chosen) / len(chosen)


def plain_tks(o, target, teaches, p, epoch, epochs, q_from=None):
    "(CE part, fitting part) of TKS for `o [T,B,K]`; the teacher is read from `q_from` where it shall be a constant."
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


SWITCHES = [dict(zip(('combine', 'none_correct', 'select', 'squared', 'detach_teacher', 'ramp'), v)) for v in itertools.product(
    ('sum', 'mean', 'prob'), ('uniform', 'label', 'skip'), ('correct', 'all', 'random'), (True, False), (True, False), ('epoch', 'end', 'constant'))]


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
        np.testing.assert_allclose([parts['ce'].item(), parts['tks'].item()], [ce, fit], rtol=1e-10, err_msg=str(s))
        reference = slope(lambda x: sum(plain_tks(x, y, teaches, p, 3, 5, o if p.detach_teacher else None)), o)
        np.testing.assert_allclose(gradient(p, logits, target, (3, 5)), reference, rtol=1e-5, atol=1e-7, err_msg=str(s))


def test_teacher_gradient_differs_where_a_step_teaches():
    logits, target = batch()
    attached, detached = (gradient(TKS(detach_teacher=d), logits, target, (1, 2)) for d in (False, True))
    teaches = pick_steps(logits, target).numpy()
    apart = np.abs(attached - detached).max(-1)
    assert (apart[teaches] > 1e-3).all() and (apart[~teaches] < 1e-12).all()
    assert loss_of(TKS(), logits, target, (1, 2)) == loss_of(TKS(detach_teacher=True), logits, target, (1, 2))


def test_tks_identities():
    logits, target = batch()
    label = F.one_hot(target, K)
    sure, wrong = logits + 30 * label, logits - 30 * label
    everyone = pick_steps(sure, target)
    assert everyone.all() and not pick_steps(wrong, target).any()
    torch.testing.assert_close(teacher_of(sure, everyone, float(T)), mean_logits(sure).softmax(-1))                       # (i)
    uniform = -16 * wrong.log_softmax(-1).mean()
    torch.testing.assert_close(TKS(temperature=4., peak=1.)(Output(wrong, None), target, (1, 1))['tks'], uniform)         # (ii)
    torch.testing.assert_close(loss_of(TKS(peak=0.), logits, target, (4, 5)), F.cross_entropy(logits.mean(0), target))    # (iii)
    o = sure[0]
    alone = 9 * F.cross_entropy(o, (o / 3).softmax(-1))
    torch.testing.assert_close(TKS(peak=1.)(Output(o[None], None), target, (1, 1))['tks'], alone)                         # (iv)


def test_random_teachers_are_as_many_and_repeat():
    logits, target = draw(6, 50, 4, seed=1), torch.arange(50) % 4
    right, drawn = (pick_steps(logits, target, s, 2) for s in ('correct', 'random'))
    assert torch.equal(right.sum(0), drawn.sum(0)) and not torch.equal(right, drawn)
    state = torch.get_rng_state()
    assert torch.equal(drawn, pick_steps(logits, target, 'random', 2)) and torch.equal(state, torch.get_rng_state())
    assert not torch.equal(drawn, pick_steps(logits, target, 'random', 3))


@pytest.mark.parametrize('ramp,last', [('epoch', .7 * 9 / 10), ('end', .7)])
def test_ramp(ramp, last):
    w = [TKS(ramp=ramp).weight(e, 10) for e in range(10)]
    assert w[0] == 0 and w[-1] == pytest.approx(last) and np.allclose(np.diff(w), w[1])
    assert TKS(ramp=ramp).weight(0, 1) == 0 and TKS(ramp='constant').weight(0, 1) == .7


def test_paper_variant_changes_four_fields_and_reads_back():
    paper = variant(TKS(temperature=5., peak=.3), 'paper')
    assert paper == TKS(temperature=5., peak=.3, combine='mean', detach_teacher=True, squared=False, ramp='end')
    assert TKS.from_dict(paper.to_dict()) == paper and paper.key != TKS(temperature=5., peak=.3).key


# ---------------------------------------------------------------- cross-entropy, TET, distillation, L_AF

@pytest.mark.parametrize('smoothing', [0., .1, .5])
def test_ce_and_label_smoothing(smoothing):
    logits, target = batch()
    expected = nn.CrossEntropyLoss(label_smoothing=smoothing)(logits.mean(0), target)
    torch.testing.assert_close(CE(smoothing=smoothing)(Output(logits, None), target)['ce'], expected)
    p = np.array([soft(o) for o in logits.mean(0).numpy()])
    by_hand = np.mean([-(1 - smoothing) * np.log(p[b, y]) - smoothing * np.log(p[b]).mean() for b, y in enumerate(target.tolist())])
    assert expected.item() == pytest.approx(by_hand)


@pytest.mark.parametrize('mse_weight,mse_target', [(0., 1.), (.05, 1.), (.5, .3)])
def test_tet(mse_weight, mse_target):
    logits, target = batch()
    def plain(o):
        ce = -np.mean([np.log(soft(o[t, b])[y]) for t in range(T) for b, y in enumerate(target.tolist())])
        return (1 - mse_weight) * ce + mse_weight * np.mean((o - mse_target)**2)
    term = TET(mse_weight=mse_weight, mse_target=mse_target)
    assert loss_of(term, logits, target).item() == pytest.approx(plain(logits.numpy()))
    np.testing.assert_allclose(gradient(term, logits, target), slope(plain, logits.numpy()), rtol=1e-5, atol=1e-8)
    assert set(term(Output(logits, None), target)) == ({'tet', 'mse'} if mse_weight else {'tet'})


def ann(steps=1):
    "A teacher that answered `steps` frames, everything asking for a gradient."
    layer = nn.Linear(D, K).double()
    layer.weight.data, layer.bias.data = draw(K, D, seed=2), draw(K, seed=3)
    features = draw(steps, B, D, seed=4).requires_grad_()
    return Teacher(layer(features), features, layer)


def kl_div(student, teacher, temperature):
    return temperature**2 * F.kl_div(F.log_softmax(student / temperature, -1), F.softmax(teacher / temperature, -1), reduction='batchmean')


@pytest.mark.parametrize('steps', [1, 5])
@pytest.mark.parametrize('temperature', [1., 20.])
def test_kd(steps, temperature):
    (logits, target), teacher = batch(), ann(steps)
    o = logits.clone().requires_grad_()
    got = KD(weight=.3, temperature=temperature)(Output(o, None), target, teacher=teacher)['kd']
    torch.testing.assert_close(got, .3 * kl_div(o.mean(0), teacher.logits.mean(0).detach(), temperature))
    got.backward()
    assert teacher.features.grad is None and teacher.classifier.weight.grad is None and o.grad.abs().max() > 0


@pytest.mark.parametrize('steps', [1, 5])
@pytest.mark.parametrize('temperature', [1., 20.])
@pytest.mark.parametrize('per_step', [False, True])
def test_laf(steps, temperature, per_step):
    (_, target), teacher = batch(), ann(steps)
    f = draw(T, B, D, seed=5).requires_grad_()
    got = LAF(weight=.3, temperature=temperature, per_step=per_step)(Output(None, f), target, teacher=teacher)['laf']
    answer = teacher.classifier(teacher.features.mean(0)).detach()
    each = [kl_div(teacher.classifier(g), answer, temperature) for g in (f if per_step else f.mean(0, keepdim=True))]
    torch.testing.assert_close(got, .3 * sum(each) / len(each))
    reference, = torch.autograd.grad(.3 * sum(each) / len(each), f)
    got.backward()
    torch.testing.assert_close(f.grad, reference)
    assert teacher.features.grad is None and all(p.grad is None for p in teacher.classifier.parameters())


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
    lambda: check_objectives(()), lambda: check_objectives((CE(), TKS())), lambda: check_objectives((CE(), CE(smoothing=.1))),
    lambda: CE(smoothing=1.), lambda: TET(mse_weight=2.), lambda: KD(weight=-1.), lambda: LAF(temperature=0.),
    lambda: TKS(temperature=0.), lambda: TKS(peak=1.1), lambda: TKS(combine='max'), lambda: TKS(select='none'),
    lambda: KD()(Output(*(draw(T, B, K),) * 2), batch()[1]), lambda: LAF()(Output(*(draw(T, B, K),) * 2), batch()[1]),
    lambda: TKS()(Output(draw(T, B, K), None), draw(B, K))])
def test_refusals(make):
    with pytest.raises(UserError): make()


def test_terms_are_settings():
    for term in [CE(smoothing=.1), TET(mse_weight=.1), KD(), LAF(per_step=True), TKS(select='random')]:
        assert Spec.from_dict(term.to_dict()) == term
