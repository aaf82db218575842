"""The methods that came after TKS and EnOF, against NumPy loops in float64, and against the numbers
that their authors' own functions give for one fixed batch."""
import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from snn_repro.core.spec import Spec, UserError, diff, variant
from snn_repro.experiments.papers import DATASETS, METHODS, tks_experiment
from snn_repro.losses.agreement import ETC, TWKD_ANN, TWKD_SELF, Agreement
from snn_repro.losses.objectives import CE, KD, LTS, TET, Teacher, total
from snn_repro.losses.pairs import S2W, TPD, W2S, Pair, pick_pairs, running_mean
from snn_repro.losses.tks import TKS, others, pick_steps, teacher_of
from snn_repro.nn.layers import Output
from test_objectives import batch, draw, gradient, loss_of, slope, soft

T, B, K = 3, 4, 3


def fixed():
    "The batch of the published numbers: of sample 0 no step is right, of each other one."
    t, b, k = np.ogrid[:4, :5, :6]
    z, a = 3 * np.sin(1.7 * t + 2.3 * b + .9 * k), 4 * np.cos(1.1 * b[0] + .7 * k[0])
    y, teacher = torch.tensor([4, 0, 5, 1, 4]), Teacher(torch.tensor(a)[None], None, None)
    return torch.tensor(z), y, teacher


def mean_entropy(q): return torch.special.entr(q).sum(-1).mean().item()
def kl(q, p): return float(np.sum(q * (np.log(q) - np.log(p))))


# ---------------------------------------------------------------- published numbers

TET0, WHOLE = TET(), {'weight': 1.}
VECTORS = {
    'TET': ((TET0,), 3.226805), 'CE': ((CE(),), 1.686259), 'LTS': ((LTS(),), 2.174159),
    'TWKD, ANN': ((replace(TWKD_ANN, **WHOLE),), 4.713647),
    'TWKD, self': ((replace(TWKD_SELF, **WHOLE),), 3.427381),
    'TWKD, self, all steps': ((replace(TWKD_SELF, select='all', **WHOLE),), 2.047248),
    'TWKD': ((TET0, TWKD_SELF, TWKD_ANN), 5.883224),
    'S2W': ((S2W,), 4.000775), 'W2S': ((W2S,), 4.297922),
    'S2W, no factor': ((variant(S2W, 'paper'),), 1.000194),
    'W2S, no factor': ((variant(W2S, 'paper'),), 1.074481),
    'cascade': ((replace(S2W, pick='cascade', squared=False),), 1.364098)}


@pytest.mark.parametrize('terms, value', VECTORS.values(), ids=VECTORS)
def test_published_numbers(terms, value):
    z, y, teacher = fixed()
    loss, _ = total(terms, Output(z, None), y, teacher=teacher)
    assert loss.item() == pytest.approx(value, abs=1e-6)


def test_the_fixed_batch_is_as_described():
    z, y, _ = fixed()
    assert pick_steps(z, y).sum(0).tolist() == [0, 1, 1, 1, 1]
    assert [i.tolist() for i in pick_pairs(z, y)] == [[2], [1]]


def test_etc_of_pairs_is_agreement_and_how_far_the_teachers_are_apart():
    "The authors' function gives 5.418633, 7.104892 with the cross-entropy of the mean."
    z, y, _ = fixed()
    p = (z / 4).softmax(-1)
    q = teacher_of(z, others(4, 5), 4., 'prob')
    apart = 16 * (mean_entropy(q) - mean_entropy(p))
    loss, parts = total((CE(), ETC), Output(z, None), y)
    assert parts['agreement'].item() + apart == pytest.approx(5.418633, abs=1e-6)
    assert loss.item() + apart == pytest.approx(7.104892, abs=1e-6)


@pytest.mark.parametrize('temperature, value', [(1., 2.010112), (2., 1.853402), (3., 1.820763)])
def test_tpd_is_its_cross_entropy_less_the_teachers_entropy(temperature, value):
    z, y, _ = fixed()
    term = replace(TPD, weight=1., squared=False, temperature=temperature)
    teachers = (running_mean(z)[1:] / temperature).softmax(-1)
    got = term(Output(z, None), y)['pair'].item() + mean_entropy(teachers)
    assert got == pytest.approx(value, abs=1e-6)


# ---------------------------------------------------------------- agreement

def plain_cost(o, y, p, teaches, q_from=None):
    """The cross-entropy with the teacher and the teacher's entropy, times temperature squared and
    averaged over steps and samples: `o [T,B,K]`, `teaches [T,T,B]`; `q_from` where q is held."""
    cost = own = 0.
    source = o if q_from is None else q_from
    for b, t in np.ndindex(o.shape[1], len(o)):
        rows = [source[j, b] for j in range(len(o)) if teaches[j, t, b]]
        if not rows and (p.none_correct == 'skip' or p.select == 'others'): continue
        h = p.temperature
        if not rows: q = np.eye(K)[y[b]] if p.none_correct == 'label' else np.full(K, 1 / K)
        elif p.combine == 'prob': q = np.mean([soft(r / h) for r in rows], 0)
        else: q = soft((np.sum if p.combine == 'sum' else np.mean)(rows, 0) / h)
        student = soft(o[t, b] / (h if p.soften == 'both' else 1))
        cost -= float(q @ np.log(student))
        own -= float(sum(v * np.log(v) for v in q if v > 0))
    return p.temperature**2 * np.array([cost, own]) / (len(o) * o.shape[1])


def who_teaches(select, logits, target, epoch):
    if select == 'others': return (~np.eye(T, dtype=bool))[..., None].repeat(B, 2)
    picked = {'all': np.ones((T, B), bool), 'correct': logits.numpy().argmax(-1) == target.numpy(),
              'random': pick_steps(logits, target, 'random', epoch).numpy()}[select]
    return picked[:, None].repeat(T, 1)


CHOICES = dict(soften=('both', 'teacher'), detach_teacher=(True, False),
               none_correct=('uniform', 'label', 'skip'))


@pytest.mark.parametrize('select', ['others', 'all', 'correct', 'random'])
@pytest.mark.parametrize('combine', ['prob', 'mean', 'sum'])
def test_agreement_is_its_formula_under_every_switch(select, combine):
    logits, target = batch()
    o, y, teaches = logits.numpy(), target.tolist(), who_teaches(select, logits, target, 3)
    for values in itertools.product(*CHOICES.values()):
        p = Agreement(select=select, combine=combine, temperature=2.5, weight=.6,
                      **dict(zip(CHOICES, values)))
        cost, own = plain_cost(o, y, p, teaches)
        got = p(Output(logits, None), target, (3, 5))['agreement'].item()
        np.testing.assert_allclose(got, .6 * (cost - own), rtol=1e-9, atol=1e-12, err_msg=str(p))
        held = o if p.detach_teacher else None
        reference = slope(lambda x: .6 * plain_cost(x, y, p, teaches, held)[0], o)
        found = gradient(p, logits, target, (3, 5))
        np.testing.assert_allclose(found, reference, rtol=1e-5, atol=1e-7, err_msg=str(p))


@pytest.mark.parametrize('ramp, share', [('constant', 1), ('epoch', 3 / 5), ('end', 3 / 4)])
def test_the_ramp_of_agreement(ramp, share):
    logits, target = batch()
    part = loss_of(replace(ETC, ramp=ramp), logits, target, (3, 5))
    torch.testing.assert_close(part, share * loss_of(ETC, logits, target, (3, 5)))


def pairwise(o, held, h):
    "ETC as its authors write it: theta^2 KL over ordered pairs of steps, teachers held."
    cells = [kl(soft(held[j, b] / h), soft(o[i, b] / h))
             for b in range(o.shape[1]) for i, j in itertools.permutations(range(len(o)), 2)]
    return h**2 * np.mean(cells)


@pytest.mark.parametrize('shape, temperature', [((2, 1, 3), 4.), ((3, 4, 3), 4.), ((5, 2, 4), 1.)])
def test_many_teachers_pull_like_their_mean(shape, temperature):
    logits, target = draw(*shape, scale=2.), torch.zeros(shape[1], dtype=torch.long)
    o = logits.numpy()
    reference = slope(lambda x: pairwise(x, o, temperature), o)
    etc = replace(ETC, temperature=temperature)
    T = shape[0]
    for term in (etc, replace(etc, select='all', weight=T / (T - 1))):
        np.testing.assert_allclose(gradient(term, logits, target), reference, rtol=1e-5, atol=1e-8)
    assert np.abs(gradient(replace(etc, select='all'), logits, target) - reference).max() > 1e-3
    pairs, mean = pairwise(o, o, temperature), loss_of(etc, logits, target).item()
    assert mean == pytest.approx(pairs) if T == 2 else mean < .99 * pairs   # one other is the mean


def test_agreement_costs_nothing_where_all_agree():
    logits, target = draw(1, B, K).expand(T, B, K), torch.arange(B) % K
    for select, combine in itertools.product(('others', 'all'), ('prob', 'mean')):
        term = Agreement(select=select, combine=combine)
        assert abs(loss_of(term, logits, target)) < 1e-12
        assert np.abs(gradient(term, logits, target)).max() < 1e-12


# ---------------------------------------------------------------- TKS, switch by switch

@pytest.mark.parametrize('soften', ['teacher', 'both'])
@pytest.mark.parametrize('task', ['share', 'full'])
def test_the_two_switches_of_tks(soften, task):
    logits, target = batch()
    p = TKS(temperature=2.5, peak=.6, soften=soften, task=task)
    o, y, teaches = logits.numpy(), target.tolist(), who_teaches('correct', logits, target, 0)
    w = .6 * 3 / 5
    def parts(x):
        ce = -np.mean([np.log(soft(x[:, b].mean(0))[c]) for b, c in enumerate(y)])
        share = 1 if task == 'full' else 1 - w
        return np.array([share * ce, w * plain_cost(x, y, p, teaches)[0]])
    got = p(Output(logits, None), target, (3, 5))
    np.testing.assert_allclose([got['ce'].item(), got['tks'].item()], parts(o), rtol=1e-9)
    reference = slope(lambda x: parts(x).sum(), o)
    np.testing.assert_allclose(gradient(p, logits, target, (3, 5)), reference, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize('select', ['correct', 'all', 'random'])
@pytest.mark.parametrize('combine', ['sum', 'mean', 'prob'])
@pytest.mark.parametrize('none_correct', ['uniform', 'label', 'skip'])
@pytest.mark.parametrize('ramp', ['epoch', 'end', 'constant'])
def test_tks_with_its_whole_task_loss_is_agreement(select, combine, none_correct, ramp):
    logits, target = batch()
    for detach, soften in itertools.product((True, False), ('teacher', 'both')):
        shared = dict(temperature=2., select=select, combine=combine, none_correct=none_correct,
                      ramp=ramp, detach_teacher=detach, soften=soften)
        tks, beside = TKS(peak=.4, task='full', **shared), (CE(), Agreement(weight=.4, **shared))
        o = logits.clone().requires_grad_()
        there, = torch.autograd.grad(total(beside, Output(o, None), target, (2, 5))[0], o)
        here = gradient(tks, logits, target, (2, 5))
        np.testing.assert_allclose(here, there.numpy(), rtol=1e-9, atol=1e-12)


SINGLE = {
    'TKS (factor 1)': 'squared', 'TKS (all steps)': 'select', 'TKS (random steps)': 'select',
    'TKS (mean)': 'combine', 'TKS (detached)': 'detach_teacher', 'TKS (both softened)': 'soften',
    'TKS (no ramp)': 'ramp', 'TKS (whole task loss)': 'task', 'ETC (right steps)': 'select',
    'ETC (mean of logits)': 'combine', 'ETC (not detached)': 'detach_teacher',
    'ETC (teacher softened)': 'soften', 'ETC (ramp)': 'ramp', 'S2W (random pair)': 'pick',
    'S2W (last to first)': 'pick', 'S2W (first to last)': 'pick', 'S2W (cascade)': 'pick',
    'S2W (not detached)': 'detach_teacher'}


@pytest.mark.parametrize('dataset, arch', [('CIFAR10', 'ResNet19'), ('DVS-CIFAR10', 'VGG-SNN')])
def test_each_label_with_brackets_turns_one_switch(dataset, arch):
    assert {n for n in METHODS if n.startswith(('TKS (', 'ETC (', 'S2W ('))} == set(SINGLE)
    for label, field in SINGLE.items():
        a, b = (tks_experiment(dataset, arch, m) for m in (label, label.partition(' (')[0]))
        assert {k.rpartition('.')[2] for k in diff(a, b)} == {field}, label


def test_tks_brings_the_temperature_of_its_data_set():
    for label in ('TKS', 'TKS (both softened)', 'L_AF + TKS'):
        o = tks_experiment('DVS-CIFAR10', 'VGG-SNN', label).objective[0]
        assert (o.temperature, o.peak) == (DATASETS['DVS-CIFAR10'].tks.temperature, .3)


# ---------------------------------------------------------------- pairs

def plain_pair(o, p, who, held=None):
    teachers, h = o if held is None else held, p.temperature
    cells = [kl(soft(teachers[i, b] / h), soft(o[j, b] / h))
             for i, j in who for b in range(o.shape[1])]
    return p.weight * (h**2 if p.squared else 1) * np.mean(cells)


def drawn(logits, target, epoch):
    return tuple(int(i[0]) for i in pick_pairs(logits, target, 'random', epoch))


def plain_who(o, y, pick, epoch):
    "Teachers and students, read from the words."
    T = len(o)
    sure = [np.mean([soft(row).max() for row in step]) for step in o]
    rank = sorted(range(T), key=lambda t: -sure[t])
    if pick == 'random': return [drawn(torch.tensor(o), y, epoch)]
    return {'strong-weak': [(rank[0], rank[-1])], 'weak-strong': [(rank[-1], rank[0])],
            'last-first': [(T - 1, 0)], 'first-last': [(0, T - 1)],
            'cascade': list(zip(rank, rank[1:])), 'next': [(t + 1, t) for t in range(T - 1)]}[pick]


PICKS = ['strong-weak', 'weak-strong', 'random', 'last-first', 'first-last', 'cascade', 'next']


@pytest.mark.parametrize('pick', PICKS)
def test_a_pair_is_its_formula_under_every_switch(pick):
    logits, target = draw(4, 3, 3, seed=7, scale=2.), torch.tensor([0, 1, 2])
    both = (True, False)
    for of, squared, detach in itertools.product(('steps', 'running'), both, both):
        p = Pair(pick=pick, of=of, temperature=2.5, weight=.6, squared=squared,
                 detach_teacher=detach)
        def seen(x): return x if of == 'steps' else x.cumsum(0) / np.arange(1, 5)[:, None, None]
        o = logits.numpy()
        who = plain_who(seen(o), target, pick, 3)
        got = p(Output(logits, None), target, (3, 5))['pair'].item()
        assert got == pytest.approx(plain_pair(seen(o), p, who), rel=1e-9)
        reference = slope(lambda x: plain_pair(seen(x), p, who, seen(o) if detach else None), o)
        found = gradient(p, logits, target, (3, 5))
        np.testing.assert_allclose(found, reference, rtol=1e-5, atol=1e-7, err_msg=str(p))


def test_a_random_pair_is_two_steps_and_repeats():
    logits, target = draw(5, 6, 3), torch.arange(6) % 3
    state = torch.get_rng_state()
    pairs = [drawn(logits, target, e) for e in range(60)]
    assert pairs == [drawn(-logits, target, e) for e in range(60)]
    assert torch.equal(state, torch.get_rng_state())
    assert all(i != j for i, j in pairs) and len(set(pairs)) > 10
    assert {i for i, _ in pairs} == {j for _, j in pairs} == set(range(5))


def test_steps_that_are_equally_sure_keep_their_order():
    # saturated: each step is sure of one class, to the last bit
    logits = 200*torch.eye(3).expand(3, 3, 3)
    for pick in ('strong-weak', 'weak-strong'):
        assert [i.tolist() for i in pick_pairs(logits, torch.zeros(3), pick)] == [[0], [2]]


def test_no_label_decides_who_teaches():
    logits = draw(4, 3, 3, seed=7)
    for pick in set(PICKS) - {'random'}:
        a, b = (pick_pairs(logits, torch.full((3,), c), pick) for c in (0, 2))
        assert all(torch.equal(i, j) for i, j in zip(a, b))


# ---------------------------------------------------------------- TET + LS, last step, KD per step

@pytest.mark.parametrize('smoothing', [0., .1, .5])
def test_tet_with_smoothing(smoothing):
    logits, target = batch()
    def plain(o):
        p = np.array([[soft(r) for r in step] for step in o])
        return np.mean([-(1 - smoothing) * np.log(p[t, b, y]) - smoothing * np.log(p[t, b]).mean()
                        for t in range(T) for b, y in enumerate(target.tolist())])
    term = TET(smoothing=smoothing)
    assert loss_of(term, logits, target).item() == pytest.approx(plain(logits.numpy()))
    found = gradient(term, logits, target)
    np.testing.assert_allclose(found, slope(plain, logits.numpy()), rtol=1e-5, atol=1e-8)


def test_only_the_last_step_is_held_to_the_label():
    logits, target = batch()
    def plain(o):
        return -np.mean([np.log(soft(o[-1, b])[y]) for b, y in enumerate(target.tolist())])
    assert loss_of(LTS(), logits, target).item() == pytest.approx(plain(logits.numpy()))
    g = gradient(LTS(), logits, target)
    np.testing.assert_allclose(g, slope(plain, logits.numpy()), rtol=1e-5, atol=1e-8)
    assert not g[:-1].any()


@pytest.mark.parametrize('frames', [1, 5])
@pytest.mark.parametrize('temperature', [1., 3.])
def test_kd_per_step(frames, temperature):
    logits, target = batch()
    answers = draw(frames, B, K, seed=4, scale=2.).requires_grad_()
    a = answers.detach().numpy().mean(0)
    def plain(o):
        cells = [kl(soft(a[b] / temperature), soft(o[t, b] / temperature))
                 for t in range(T) for b in range(B)]
        return .3 * temperature**2 * np.mean(cells)
    term = KD(weight=.3, temperature=temperature, per_step=True)
    teacher = Teacher(answers, None, None)
    got = loss_of(term, logits, target, teacher=teacher).item()
    assert got == pytest.approx(plain(logits.numpy()))
    found = gradient(term, logits, target, teacher=teacher)
    np.testing.assert_allclose(found, slope(plain, logits.numpy()), rtol=1e-5, atol=1e-8)
    loss_of(term, logits.clone().requires_grad_(), target, teacher=teacher).backward()
    assert answers.grad is None


# ---------------------------------------------------------------- one step, none right, one image

def some(T, B, right, dtype=torch.float64):
    "Logits of which every step is right, or none."
    target = torch.arange(B) % K
    lead = (20 if right else -20) * F.one_hot(target, K)
    return (draw(T, B, K, seed=9) + lead).to(dtype), target


def ann(B, dtype=torch.float64):
    layer = torch.nn.Linear(7, K, dtype=dtype)
    layer.weight.data, layer.bias.data = draw(K, 7, seed=2).to(dtype), draw(K, seed=3).to(dtype)
    features = draw(1, B, 7, seed=4).to(dtype)
    return Teacher(layer(features).detach(), features, layer)


@pytest.mark.parametrize('steps', [1, 4])
@pytest.mark.parametrize('images', [1, 5])
@pytest.mark.parametrize('right', [True, False])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize('method', METHODS)
def test_every_method_is_defined(method, steps, images, right, dtype):
    logits, target = some(steps, images, right, dtype)
    o, f = logits.requires_grad_(), draw(steps, images, 7, seed=5).to(dtype).requires_grad_()
    loss, parts = total(METHODS[method], Output(o, f), target, (4, 5), ann(images, dtype))
    g, = torch.autograd.grad(loss, o)
    assert torch.isfinite(loss) and torch.isfinite(g).all() and loss.dtype == dtype
    assert all(v.ndim == 0 for v in parts.values()) and loss >= -1e-5


NOTHING = [n for n in METHODS if n.startswith(('ETC', 'S2W', 'W2S')) and n != 'ETC (right steps)']


@pytest.mark.parametrize('images', [1, 5])
@pytest.mark.parametrize('right', [True, False])
@pytest.mark.parametrize('method', NOTHING)
def test_with_one_step_they_are_the_baseline(method, right, images):
    logits, target = some(1, images, right)
    o = logits.clone().requires_grad_()
    loss, parts = total(METHODS[method], Output(o, None), target, (2, 5))
    g, = torch.autograd.grad(loss, o)
    assert parts.keys() - {'ce'} and all(v == 0 for k, v in parts.items() if k != 'ce')
    torch.testing.assert_close(torch.from_numpy(gradient(CE(), logits, target)), g)


ALIKE = [(TET(), CE()), (LTS(), CE()), (TET(smoothing=.1), CE(smoothing=.1)),
         (TWKD_ANN, replace(TWKD_ANN, per_step=False))]


@pytest.mark.parametrize('term, same', ALIKE, ids=str)
def test_with_one_step_its_mean_is_no_other(term, same):
    logits, target = some(1, 5, True)
    a, b = (loss_of(o, logits, target, teacher=ann(5)) for o in (term, same))
    torch.testing.assert_close(a, b)


@pytest.mark.parametrize('steps', [1, 4])
def test_where_no_step_is_right(steps):
    logits, target = some(steps, 5, False)
    p = (logits / 3).log_softmax(-1)
    of_label = p.gather(-1, target.expand(steps, 5)[..., None])
    uniform = 9 * (-np.log(K) - p.mean(-1)).mean()
    cases = {'uniform': uniform, 'label': -9 * of_label.mean(), 'skip': 0.}
    for name, value in cases.items():
        term = replace(TWKD_SELF, weight=1., none_correct=name)
        assert loss_of(term, logits, target).item() == pytest.approx(float(value), abs=1e-12)
        assert (name == 'skip') == (not gradient(term, logits, target).any())


@pytest.mark.parametrize('steps', [1, 4])
def test_where_the_one_step_is_right_it_teaches_itself(steps):
    logits, target = some(steps, 5, True)
    alone = np.abs(gradient(TWKD_SELF, logits, target)).max()
    assert alone < 1e-12 if steps == 1 else alone > 1e-6


OWN = [ETC, TWKD_SELF, replace(TWKD_SELF, select='all'), TET(smoothing=.1), LTS()]


@pytest.mark.parametrize('term', OWN, ids=str)
def test_each_image_counts_for_itself(term):
    logits, target = batch()
    each = [loss_of(term, logits[:, b:b + 1], target[b:b + 1]) for b in range(B)]
    torch.testing.assert_close(loss_of(term, logits, target), torch.stack(each).mean())


# ---------------------------------------------------------------- settings

def answer(): return Output(draw(T, B, K), None)


@pytest.mark.parametrize('make', [
    lambda: Agreement(select='right'), lambda: Agreement(combine='max'),
    lambda: Agreement(soften='student'), lambda: Agreement(ramp='no'),
    lambda: Agreement(none_correct='drop'), lambda: Agreement(temperature=0.),
    lambda: Agreement(weight=-1.), lambda: Pair(pick='best'), lambda: Pair(of='mean'),
    lambda: Pair(temperature=-1.), lambda: Pair(weight=-.1), lambda: TKS(soften='none'),
    lambda: TKS(task='half'), lambda: TKS(select='others'), lambda: TET(smoothing=1.),
    lambda: TET(smoothing=-.1), lambda: ETC(answer(), draw(B, K)),
    lambda: TWKD_ANN(answer(), batch()[1]),
    lambda: total((CE(), ETC, TWKD_SELF), answer(), batch()[1]),
    lambda: total((CE(), S2W, W2S), answer(), batch()[1])])
def test_refusals(make):
    with pytest.raises(UserError): make()


def test_they_are_settings_and_their_keys_differ():
    terms = [o for objective in METHODS.values() for o in objective]
    assert all(Spec.from_dict(o.to_dict()) == o for o in terms)
    assert len({o.key for o in terms}) == len(set(terms))
    assert len(set(METHODS.values())) == len(METHODS)


NEW = [(KD(), 'per_step', True), (TET(), 'smoothing', .1), (TKS(), 'soften', 'both'),
       (TKS(), 'task', 'full')]


@pytest.mark.parametrize('term, field, other', NEW, ids=str)
def test_a_new_field_leaves_old_keys(term, field, other):
    old = {k: v for k, v in term.to_dict().items() if k != field}
    assert Spec.from_dict(old) == term and type(term).from_dict(old).key == term.key
    assert replace(term, **{field: other}).key != term.key
