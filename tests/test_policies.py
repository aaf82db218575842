"""Chapter 4.16's policies against timm, torchvision and plain Pillow, which are given the very
numbers that ours were drawn from."""
import random, types

import numpy as np
import pytest
import torch
import torchvision.transforms as tv
from PIL import Image, ImageEnhance, ImageOps
from scipy.stats import chi2_contingency, chisquare, ks_2samp, kstest
from timm.data import (auto_augment as timm_aa, create_transform, random_erasing as timm_re,
                       transforms as timm_tf)

from snn_repro.core.rng import uniforms
from snn_repro.core.spec import Spec, UserError
from snn_repro.data import policies
from snn_repro.data.augment import CropFlip
from snn_repro.data.policies import (AutoAugmentCutout, CropFlipRotate, FlipRoll,
                                     RandomResizedCropFlip, Strong, gaussian, more)
from snn_repro.data.source import Source

ALL = (Strong(), AutoAugmentCutout(), RandomResizedCropFlip(), RandomResizedCropFlip(jitter=.4),
       CropFlipRotate(), FlipRoll())


def photographs(n, H=32, W=32):
    "Bytes [n,3,H,W] with smooth shades and some noise."
    rng = np.random.default_rng(n + H + W)
    i, j, c = np.arange(H)[:, None], np.arange(W), np.arange(3)[:, None, None]
    a, b, p = (rng.uniform(0, 2, (n, 1, 1, 1)) for _ in range(3))
    x = 128 + 90 * np.sin(a * i / 5 + b * j / 5 + 3 * p + c) + rng.normal(0, 12, (n, 3, H, W))
    return torch.from_numpy(x.clip(0, 255).astype(np.uint8))


def image(x): return Image.fromarray(np.ascontiguousarray(x.permute(1, 2, 0).numpy()))
def tensor(im): return torch.from_numpy(np.array(im)).permute(2, 0, 1)


class Told:
    "A `random` that deals out numbers it was told."
    def __init__(self, *numbers): self.numbers = list(numbers)
    def random(self): return self.numbers.pop(0)
    def gauss(self, mean, std): return mean + std * self.numbers.pop(0)
    def uniform(self, a, b): return a + (b - a) * self.numbers.pop(0)
    def randint(self, a, b): return a + int(self.numbers.pop(0) * (b - a + 1))


@pytest.fixture
def restored():
    "The library's own draws use the global generators; give them back as they were."
    state, np_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(): yield
    random.setstate(state); np.random.set_state(np_state)


def timm_pipeline():
    return create_transform(input_size=32, is_training=True, color_jitter=.4,
                            auto_augment='rand-m9-mstd0.5-inc1', interpolation='bicubic',
                            re_prob=.25, re_mode='pixel', re_count=1).transforms


def timm_rand_augment():
    """timm's operation; posterize to 0 bits is black, as in the Pillow of its time (today's refuses
    it)."""
    ra, = (t for t in timm_pipeline() if isinstance(t, timm_aa.RandAugment))
    op = next(o for o in ra.ops if o.name == 'PosterizeIncreasing')
    now = op.aug_fn
    op.aug_fn = lambda im, bits, **kw: now(im, bits, **kw) if bits else Image.new(im.mode, im.size)
    return ra


# --- Crop and flip


@pytest.mark.parametrize('size, pad',
                         [((32, 32), 4), ((9, 14), 2), ((5, 5), 0), ((48, 48), 12)], ids=str)
def test_crop_and_flip_give_torchvisions_bytes(size, pad):
    n = 200
    x, u, crop = (photographs(n, *size), uniforms(0, 0, torch.arange(n), 3),
                  tv.RandomCrop(size, padding=pad))
    ours = CropFlip(pad=pad)(x, u)
    for i, (a, b, mirror) in enumerate(u.double().tolist()):
        crop.get_params = lambda *_: (int(a * (2 * pad + 1)), int(b * (2 * pad + 1)), *size)
        theirs = tv.RandomHorizontalFlip(p=float(mirror < .5))(crop(image(x[i])))
        assert torch.equal(ours[i], tensor(theirs)), i


@pytest.mark.parametrize('draw', [lambda n: uniforms(3, 5, torch.arange(n), 3), lambda n: torch.cat(
    [uniforms(3, e, torch.tensor([7]), 3) for e in range(n)])],
                         ids=['the pictures of an epoch', 'the epochs of a picture'])
def test_crop_and_flip_are_spread_as_torchvisions(draw, restored):
    """Place and mirror together, each library tossing its own coins; a picture without two equal
    pixels tells what was done to it."""
    n, x = 6000, torch.arange(1, 65, dtype=torch.uint8).view(1, 8, 8)
    ours, one = (CropFlip(pad=2)(x.expand(n, 1, 8, 8), draw(n)),
                 tv.Compose([tv.RandomCrop(8, padding=2), tv.RandomHorizontalFlip()]))
    torch.manual_seed(0)
    theirs = torch.stack([one(x) for _ in range(n)])
    kinds, which = torch.cat([ours, theirs]).flatten(1).unique(dim=0, return_inverse=True)
    counts = [w.bincount(minlength=len(kinds)).numpy() for w in which.split(n)]
    assert (len(kinds) == 5 * 5 * 2 and chi2_contingency(counts).pvalue > 1e-4 and
            chisquare(counts[0]).pvalue > 1e-4)


# --- RandAugment


def test_the_fifteen_operations_are_timms_in_timms_order():
    assert [o.name for o in timm_rand_augment().ops] == list(policies.RAND_AUGMENT)


def test_rand_augment_gives_timms_bytes(monkeypatch):
    n = 1200
    x, u, ra = photographs(n), uniforms(0, 0, torch.arange(n), 8).double(), timm_rand_augment()
    u[: n // 2, 1::4] *= .5   # in half of the pictures both operations are done
    u[: n // 20, 2::4] = 1 - 2 ** -24   # and magnitude 10 occurs with every operation
    ours, done = policies.rand_augment(x, u, 9.), np.zeros(15, int)
    for i in range(n):
        rows = u[i].view(2, 4).tolist()
        chosen = [int(r[0] * 15) for r in rows]
        done += np.bincount([c for c, r in zip(chosen, rows) if r[1] < .5], minlength=15)
        coins = Told()
        for c, (_, whether, noise, sign) in zip(chosen, rows):
            signed = timm_aa.LEVEL_TO_ARG[ra.ops[c].name] in SIGNED
            if whether < .5:
                coins.numbers += ([whether, gaussian(torch.tensor(noise)).item()] +
                                  [1 - sign] * signed)
            else: coins.numbers += [whether]
        monkeypatch.setattr(timm_aa, 'random', coins)
        monkeypatch.setattr(timm_aa, 'np', types.SimpleNamespace(
            random=types.SimpleNamespace(choice=lambda ops, *a, **k: [ops[c] for c in chosen])))
        theirs = tensor(ra(image(x[i])))
        assert not coins.numbers
        assert torch.equal(ours[i], theirs), [ra.ops[c].name for c in chosen]
    assert done.min() >= 60


SIGNED = {timm_aa._rotate_level_to_arg, timm_aa._shear_level_to_arg,
          timm_aa._translate_rel_level_to_arg, timm_aa._enhance_increasing_level_to_arg}


def test_rand_augment_is_spread_as_timms(monkeypatch, restored):
    "Which operations, how often done, magnitudes and signs, each library tossing its own coins."
    n, theirs, ours = 6000, [], []
    ra = timm_rand_augment()
    for op in ra.ops: op.aug_fn = lambda im, *a, name=op.name, **k: theirs.append((name, *a))
    random.seed(1); np.random.seed(1)
    for _ in range(n): ra(None)
    def spy(x, which, operations, m, s):
        names = list(policies.RAND_AUGMENT)
        ours.extend((names[w], mm * ss) for w, mm, ss in zip(which.tolist(), m.tolist(), s.tolist())
                    if w >= 0)
        return x
    monkeypatch.setattr(policies, 'apply', spy)
    policies.rand_augment(torch.zeros(n, 0), uniforms(5, 0, torch.arange(n), 8).double(), 9.)
    for found in (theirs, ours):
        count = [sum(f[0] == name for f in found) for name in policies.RAND_AUGMENT]
        assert abs(sum(count) / (2 * n) - .5) < .02 and chisquare(count).pvalue > 1e-4
    for name, scale in (('Rotate', 3), ('ShearX', .03), ('TranslateYRel', .045)):
        a, b = [f[1] / scale for f in theirs if f[0] == name], [f[1] for f in ours if f[0] == name]
        assert min(len(a), len(b)) > 250 and ks_2samp(a, b).pvalue > 1e-4, name
    assert abs(np.mean([abs(f[1]) for f in ours]) - 9) < .05 and max(abs(f[1]) for f in ours) == 10


# --- Erasing


def test_erasing_is_timms_box_for_box(monkeypatch):
    n, (H, W) = 300, (32, 32)
    u = uniforms(2, 0, torch.arange(n), 3).double()
    w, x = more(u[:, 1:], 22), torch.zeros(n, 3, H, W)
    w[:5, :20], w[5:10, 10:19] = .9999, .9999   # no try fits · only the last try does
    w[5:10, :10], w[5:10, 19] = .9999, .5
    monkeypatch.setattr(policies, 'more', lambda v, k: torch.cat(
        [w[(u[:, 0] < .25).nonzero()[:, 0]], more(v, k)[:, 22:]], 1))
    ours = policies.erase(x, u, .25)
    timm, = (t for t in timm_pipeline() if isinstance(t, timm_re.RandomErasing))
    hit = 0
    for i in range(n):
        coins = Told(u[i, 0].item(), *torch.stack([w[i, :10], w[i, 10:20]], 1).flatten().tolist())
        coins.randint = lambda a, b, at=iter(w[i, 20:].tolist()): a + int(next(at) * (b - a + 1))
        monkeypatch.setattr(timm_re, 'random', coins)
        with torch.random.fork_rng(): theirs = timm(torch.zeros(3, H, W))
        assert torch.equal(ours[i] != 0, theirs != 0), i
        hit += (theirs != 0).any().item()
    assert .15 < hit / n < .35


def test_boxes_of_tries_that_fail():
    # a third of the picture, three times as high as wide: too high
    w = torch.full((2, 22), .9999).double()
    w[1, 9], w[1, 19] = 0, .5
    boxes = policies.erase_box(w, 32, 32).tolist()
    assert (boxes[0][2] == 0 and boxes[1][2:] == [5, 5] and
            policies.within(torch.tensor(boxes), 32, 32).sum((1, 2, 3)).tolist() == [0, 25])


def test_boxes_are_spread_as_timms(restored):
    n = 3000
    boxes = policies.erase_box(more(uniforms(3, 0, torch.arange(n), 2), 22), 32, 32)
    random.seed(3)
    timm, theirs = timm_re.RandomErasing(probability=1, mode='const', device='cpu'), []
    for _ in range(n):
        i, j = (timm(torch.ones(1, 32, 32))[0] == 0).nonzero(as_tuple=True)
        theirs.append((i.min(), j.min(), i.max() - i.min() + 1, j.max() - j.min() + 1))
    for a, b in zip(boxes.T.tolist(), torch.tensor(theirs).T.tolist()):
        assert ks_2samp(a, b).pvalue > 1e-4


def test_the_noise_is_normal_in_every_value():
    n = 60
    y = policies.erase(torch.full((n, 3, 32, 32), 50.),
                       uniforms(0, 4, torch.arange(n), 3).double(), 1.)
    erased = y != 50
    assert torch.equal(erased[:, 0], erased[:, 1]) and erased.flatten(1).any(1).all()
    values = y[erased]
    assert (kstest(values.numpy(), 'norm').pvalue > 1e-4 and
            values.unique().numel() > .99 * values.numel())


def test_strong_is_crop_flip_two_operations_and_erasing():
    x, index = photographs(40), torch.arange(40)
    u = uniforms(0, 0, index, Strong().k)
    cropped = policies.crop_flip(x, u[:, :3].double(), 4, True)
    assert torch.equal(Strong()(x, u), policies.rand_augment(cropped, u[:, 3:11].double(), 9.))
    ready = Source(x, index).ready(x)
    after = Strong().after(ready, u)
    assert (torch.equal((after != ready).flatten(1).any(1), u[:, 11] < .25) and
            torch.equal(Strong(erasing=0.).after(ready, u), ready))
    weaker = Strong(magnitude=1.)(x, u)
    assert (weaker.float() - cropped).abs().mean() < (Strong()(x, u).float() - cropped).abs().mean()


# --- AutoAugment


SCALES = dict(shear=np.linspace(0, .3, 10), shift=np.linspace(0, 150 / 331, 10),
              turn=np.linspace(0, 30, 10), tone=np.linspace(0, .9, 10),
              bits=np.round(np.linspace(8, 4, 10)).astype(int), threshold=np.linspace(256, 0, 10))


def turned_over_grey(im, degrees):
    """Turned with an alpha channel, then laid on half-transparent grey: the way public spiking
    codes fill the corners."""
    turned = im.convert('RGBA').rotate(degrees)
    return Image.composite(turned, Image.new('RGBA', im.size, (128,) * 4), turned).convert('RGB')


def plainly(im, name, level, sign):
    "One operation as public spiking codes have Pillow do it."
    at = {k: v[level] for k, v in SCALES.items()}

    def place(*data, **kw):
        return im.transform(im.size, Image.Transform.AFFINE, data, fillcolor=(128, 128, 128), **kw)

    return {
        'ShearY': lambda: place(1, 0, 0, at['shear'] * sign, 1, 0,
                                resample=Image.Resampling.BICUBIC),
        'TranslateX': lambda: place(1, 0, at['shift'] * im.size[0] * sign, 0, 1, 0),
        'TranslateY': lambda: place(1, 0, 0, 0, 1, at['shift'] * im.size[1] * sign),
        'Rotate': lambda: turned_over_grey(im, at['turn']),
        **{n: lambda n=n: getattr(ImageEnhance, n)(im).enhance(1 + at['tone'] * sign)
           for n in ('Color', 'Contrast', 'Sharpness', 'Brightness')},
        'Posterize': lambda: ImageOps.posterize(im, int(at['bits'])),
        'Solarize': lambda: ImageOps.solarize(im, at['threshold']),
        'AutoContrast': lambda: ImageOps.autocontrast(im),
        'Equalize': lambda: ImageOps.equalize(im), 'Invert': lambda: ImageOps.invert(im),
    }[name]()


@pytest.mark.parametrize('size', [(32, 32), (40, 27)], ids=str)
def test_auto_augment_gives_the_bytes_of_a_plain_pillow_loop(size):
    n = 500
    x, u = photographs(n, *size), uniforms(7, 0, torch.arange(n), 5).double()
    u[: n // 2, 1::2] *= .1   # in half of the pictures nearly everything is done
    ours, seen = policies.auto_augment(x, u), set()
    for i in range(n):
        im, pair = image(x[i]), policies.CIFAR10_POLICY[int(u[i, 0] * 25)]
        for (name, p, level), (whether, sign) in zip(pair, u[i, 1:].view(2, 2).tolist()):
            if whether < p:
                seen |= {(name, level, sign < .5)}
                im = plainly(im, name, level, -1 if sign < .5 else 1)
        assert torch.equal(ours[i], tensor(im)), pair
    assert (len({name for name, *_ in seen}) == 13 and
            (ours != x).flatten(1).any(1).double().mean() > .6)


@pytest.mark.parametrize('name', policies.AUTO_AUGMENT)
def test_every_operation_at_every_level_is_pillows(name):
    "The pairs use few of the ten levels; the table has all."
    x = photographs(20, 32, 36)
    level, sign = torch.arange(10).repeat(2), torch.tensor([1., -1]).double().repeat_interleave(10)
    ours = policies.AUTO_AUGMENT[name](x, level, sign)
    for i in range(20):
        assert torch.equal(ours[i], tensor(plainly(image(x[i]), name, level[i].item(),
                                                   sign[i].item()))), (name, level[i])


def test_an_operations_probability_is_as_exact_as_a_uniform():
    """A uniform just below 0.7 does it, the next one does not: no rounding to single precision on
    the way."""
    steps = int(.7 * 2 ** 24)
    # pair 2, p = 0.7
    u = torch.tensor([[1.5 / 25, n / 2 ** 24, 0, .99, 0] for n in (steps, steps + 1)],
                     dtype=torch.double)
    x = photographs(2)
    assert (policies.auto_augment(x, u) != x).flatten(1).any(1).tolist() == [True, False]


def test_the_pairs_are_torchvisions_but_for_one_probability():
    theirs = [tuple((n, p, l or 0) for n, p, l in pair)
              for pair in tv.AutoAugment(tv.AutoAugmentPolicy.CIFAR10).policies]
    assert theirs[16] == (('Equalize', .2, 0), ('Equalize', .6, 0))
    # so in four copies of the file of public spiking codes
    theirs[16] = (('Equalize', .2, 0), ('Equalize', .8, 0))
    assert policies.CIFAR10_POLICY == tuple(theirs)


def test_pairs_without_levels_or_geometry_are_torchvisions_too():
    "A second oracle where the two agree; scales, fill and resampling differ."
    plain, policy = ({'AutoContrast', 'Equalize', 'Invert', 'Posterize'},
                     tv.AutoAugment(tv.AutoAugmentPolicy.CIFAR10))
    pairs = [n for n, pair in enumerate(policies.CIFAR10_POLICY)
             if {name for name, *_ in pair} <= plain]
    assert len(pairs) == 6
    for n in pairs:
        x, u = photographs(20), torch.tensor([[(n + .5) / 25, 0, 0, 0, 0]]).repeat(20, 1).double()
        ours = policies.auto_augment(x, u)
        policy.get_params = lambda k, n=n: (n, torch.zeros(2), torch.zeros(2, dtype=torch.long))
        for i in range(20): assert torch.equal(ours[i], tensor(policy(image(x[i])))), n


def test_cutout_is_one_square_cut_at_the_border():
    x, u = (torch.full((300, 3, 20, 30), 9, dtype=torch.uint8),
            uniforms(0, 0, torch.arange(300), 2).double())
    y = policies.cutout(x, u, 16)
    for i in range(300):
        r, c = int(u[i, 0] * 20), int(u[i, 1] * 30)
        theirs = x[i].clone()
        theirs[:, max(0, r - 8):r + 8, max(0, c - 8):c + 8] = 0
        assert torch.equal(y[i], theirs)


# --- parts of photographs


@pytest.mark.parametrize('size', [(427, 640), (500, 375), (32, 32), (90, 1000), (1000, 90),
                                  (3, 2), (1, 1)], ids=str)
def test_parts_are_timms_and_torchvisions(size, monkeypatch, restored):
    H, W = size
    w = more(uniforms(0, 0, torch.arange(400), 2), 22)
    blank = Image.new('L', (W, H))
    ours = [policies.crop_box(v, H, W) for v in w.tolist()]
    for v, box in zip(w.tolist(), ours):
        coins = Told(*(n for pair in zip(v[:10], v[10:20]) for n in pair))
        coins.randint = lambda a, b, at=iter(v[20:]): a + int(next(at) * (b - a + 1))
        monkeypatch.setattr(timm_tf, 'random', coins)
        theirs = timm_tf.RandomResizedCropAndInterpolation.get_params(blank, (.08, 1.),
                                                                      (3 / 4, 4 / 3))
        # of a few pixels, timm may take none; torchvision tries again
        assert box == theirs or min(theirs[2:]) == 0
    assert all(h >= 1 and w_ >= 1 and t >= 0 and l >= 0 and t + h <= H and l + w_ <= W
               for t, l, h, w_ in ours)
    torch.manual_seed(0)
    theirs = [tv.RandomResizedCrop.get_params(blank, [.08, 1.], [3 / 4, 4 / 3]) for _ in range(400)]
    for a, b in zip(zip(*ours), zip(*theirs)): assert ks_2samp(a, b).pvalue > 1e-4


def test_colours_jitter_as_torchvisions():
    n = 120
    x, u = photographs(n), uniforms(0, 0, torch.arange(n), 4).double()
    ours, jitter = policies.color_jitter(x, u, .4), tv.ColorJitter(.4, .4, .4)
    for i in range(n):
        order = policies._ORDERS[int(u[i, 0] * 6)].tolist()
        jitter.get_params = lambda *a, v=u[i]: (torch.tensor(order + [3]),
                                                *(.6 + .8 * v[1:]).tolist(), None)
        assert torch.equal(ours[i], tensor(jitter(image(x[i])))), i
    assert len({tuple(o) for o in policies._ORDERS.tolist()}) == 6


def test_colours_are_spread_as_torchvisions(monkeypatch, restored):
    n, ours = 4000, []
    monkeypatch.setattr(policies, 'apply', lambda x, which, operations, factor:
                        ours.append(torch.stack([which, factor])) or x)
    policies.color_jitter(torch.zeros(n, 0), uniforms(1, 0, torch.arange(n), 4).double(), .4)
    torch.manual_seed(0)
    theirs = [tv.ColorJitter.get_params([.6, 1.4], [.6, 1.4], [.6, 1.4], None) for _ in range(n)]
    orders = [[tuple(which) for which in torch.stack([o[0] for o in ours], 1).int().tolist()],
              [tuple(k for k in t[0].tolist() if k < 3) for t in theirs]]
    kinds = sorted(set(orders[0]))
    assert (len(kinds) == 6 and
            chi2_contingency([[o.count(k) for k in kinds] for o in orders]).pvalue > 1e-4)
    for k in range(3):
        assert ks_2samp(torch.cat([f[w == k] for w, f in ours]).numpy(),
                        [t[k + 1] for t in theirs]).pvalue > 1e-4


def test_flips_of_parts_are_even():
    "Over the pictures of an epoch, whichever part is taken."
    u = uniforms(4, 1, torch.arange(4000), 3)
    x = torch.tensor([0, 1], dtype=torch.uint8).expand(4000, 3, 1, 2)
    flipped = RandomResizedCropFlip()(x, u)[:, 0, 0, 0] == 1
    high = torch.tensor([policies.crop_box(w, 100, 100)[2] > 60
                         for w in more(u[:, :2], 22).tolist()])
    assert chi2_contingency([[(flipped & high).sum(), (~flipped & high).sum()],
                             [(flipped & ~high).sum(), (~flipped & ~high).sum()]]).pvalue > 1e-4
    assert abs(flipped.double().mean() - .5) < .03


def test_a_source_cuts_where_it_is_told():
    x, augment, index = photographs(6, 40, 60), RandomResizedCropFlip(), torch.tensor([4, 1])
    u = uniforms(0, 3, index, augment.k)
    batch, _ = Source(x, torch.arange(6)).batch(index, augment.cut(u))
    t, l, h, w = augment.cut(u)(1, 40, 60)
    part = torch.nn.functional.interpolate(x[1:2, :, t:t + h, l:l + w].float(), (40, 60),
                                           mode='bilinear', antialias=True).round().byte()
    assert torch.equal(batch[1], part[0]) and augment(batch, u).shape == (2, 3, 40, 60)
    assert torch.equal(augment(batch, u)[1], part[0].flip(-1) if u[1, 2] < .5 else part[0])


# --- events


def test_clips_turn_as_in_torchvision():
    clip = torch.from_numpy(np.random.default_rng(0).integers(0, 9, (3, 50, 2, 48, 48))).float()
    u = uniforms(0, 0, torch.arange(50), 4)
    ours, differ = CropFlipRotate()(clip, u), 0
    for b in range(50):
        r, c = (int(v * 9) for v in u[b, :2].tolist())
        window = torch.nn.functional.pad(clip[:, b], (4,) * 4)[..., r:r + 48, c:c + 48]
        if u[b, 2] < .5: window = window.flip(-1)
        theirs = tv.functional.rotate(window, (2 * u[b, 3].item() - 1) * 15)
        differ += (ours[:, b] != theirs).any((0, 1)).double().mean().item() / 50
    # places halfway between pixels, which torchvision rounds in single precision
    assert differ < .002


def test_turns_are_spread_as_torchvisions(monkeypatch, restored):
    n, ours = 3000, []
    monkeypatch.setattr(policies, 'rotate', lambda x, degrees, *how: ours.append(degrees) or x)
    CropFlipRotate(degrees=15.)(torch.zeros(1, n, 2, 4, 4), uniforms(2, 0, torch.arange(n), 4))
    torch.manual_seed(0)
    assert ks_2samp(ours[0].numpy(),
                    [tv.RandomRotation.get_params([-15., 15.]) for _ in range(n)]).pvalue > 1e-4


def test_clips_flip_and_roll():
    for dtype in (torch.uint8, torch.float32):
        clip = (
            torch.from_numpy(np.random.default_rng(0).integers(0, 9, (3, 40, 2, 12, 14))).to(dtype))
        u = uniforms(0, 0, torch.arange(40), 3)
        ours, seen = FlipRoll()(clip, u), set()
        for b in range(40):
            down, right = (int(v * 11) - 5 for v in u[b, 1:].tolist())
            seen |= {down, right}
            flipped = clip[:, b].flip(-1) if u[b, 0] < .5 else clip[:, b]
            assert torch.equal(ours[:, b], flipped.roll((down, right), (-2, -1)))
        assert seen == set(range(-5, 6)) and ours.dtype == dtype


# --- all


@pytest.mark.parametrize('augment', ALL, ids=lambda a: f'{type(a).__name__}-{a.k}')
def test_a_pure_function_of_picture_and_row(augment):
    x, index = photographs(30), torch.arange(30)
    before, u = x.clone(), uniforms(1, 2, index, augment.k)
    whole, after = augment(x, u), augment.after(x / 255, u)
    assert torch.equal(x, before) and whole.dtype == x.dtype and whole.shape == x.shape
    rng, np_state, state = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    for some in ([3], [29, 0, 7, 7], list(range(29, -1, -1))):
        v = uniforms(1, 2, torch.tensor(some), augment.k)
        assert (torch.equal(augment(x[some], v), whole[some]) and
                torch.equal(augment.after(x[some] / 255, v), after[some]))
        if augment.cut(u):
            assert all(augment.cut(v)(n, 50, 70) == augment.cut(u)(i, 50, 70)
                       for n, i in enumerate(some))
    assert (torch.equal(torch.get_rng_state(), rng) and
            (np.random.get_state()[1] == np_state).all() and random.getstate() == state)
    assert type(augment).from_dict(augment.to_dict()) == augment and isinstance(augment, Spec)
    # the smallest and largest uniforms
    for edge in (torch.zeros(30, augment.k), torch.full((30, augment.k), 1 - 2 ** -24)):
        assert augment(x, edge).shape == x.shape and augment.after(x / 255, edge).isfinite().all()


def test_refusals_name_the_mistake():
    x, u = photographs(2), torch.zeros(2, 14)
    for wrong in (x.float(), x[:, :1], x[None]):
        with pytest.raises(UserError, match='Strong.*uint8'): Strong()(wrong, u)
    with pytest.raises(UserError, match=r'give \[B,14\]'): Strong()(x, u[:1])
    for bad in (lambda: Strong(magnitude=11.), lambda: Strong(erasing=2.),
                lambda: AutoAugmentCutout(hole=5), lambda: FlipRoll(shift=-1),
                lambda: RandomResizedCropFlip(jitter=-.1), lambda: CropFlipRotate(pad=-1),
                lambda: CropFlipRotate(degrees=200.)):
        with pytest.raises(UserError, match='choose'): bad()
