"Chapter 4.15's operations against Pillow and timm, on awkward sizes and contents."
import platform

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from timm.data import auto_augment as timm_aa

from snn_repro.data import pixels as px

SIZES = [(1, 1), (2, 5), (3, 3), (17, 33), (32, 32), (48, 40)]
MODES = {'nearest': Image.Resampling.NEAREST, 'bilinear': Image.Resampling.BILINEAR,
         'bicubic': Image.Resampling.BICUBIC}


def batch(H, W, B=12, seed=0):
    "Noise, smooth ramps, few values, one value, extremes: bytes [B,3,H,W]."
    rng = np.random.default_rng(seed + H * 100 + W)
    x = rng.integers(0, 256, (B, 3, H, W))
    x[1] = np.add.outer(np.arange(H) * 5, np.arange(W) * 3) % 256
    x[2], x[3], x[4] = 100 + x[2] // 64, 77, (x[4] > 127) * 255
    x[5, 0], x[5, 1], x[5, 2] = 0, 255, 255 * (np.arange(W) > W // 2)
    x[6] = x[6] // 2 + 60
    return torch.from_numpy(x.astype(np.uint8))


def pillow(f, x, *each):
    images = [Image.fromarray(np.ascontiguousarray(im.permute(1, 2, 0).numpy())) for im in x]
    done = [f(im, *p) for im, *p in zip(images, *(torch.as_tensor(e).tolist() for e in each))]
    return torch.stack([torch.from_numpy(np.array(im)).permute(2, 0, 1) for im in done])


def same(a, b):
    "Equal bytes; where Pillow may be built with fused multiply-adds, one in a thousand off by one."
    off = (a.int() - b.int()).abs()
    return (off.max() <= 1 and
            (off > 0).double().mean() <= (0 if platform.machine() in ('x86_64', 'AMD64') else .001))


@pytest.mark.parametrize('size', SIZES, ids=str)
def test_tone_is_pillows(size):
    x = batch(*size)
    rng = np.random.default_rng(1)
    factor, threshold = (torch.from_numpy(rng.uniform(0, 2, len(x))),
                         torch.from_numpy(rng.uniform(0, 257, len(x))))
    bits, amount = (torch.from_numpy(rng.integers(1, 9, len(x))),
                    torch.from_numpy(rng.integers(0, 111, len(x))))
    assert torch.equal(px.invert(x), pillow(ImageOps.invert, x))
    assert torch.equal(px.equalize(x), pillow(ImageOps.equalize, x))
    assert same(px.autocontrast(x), pillow(ImageOps.autocontrast, x))
    assert torch.equal(px.posterize(x, bits), pillow(ImageOps.posterize, x, bits))
    assert torch.equal(px.solarize(x, threshold), pillow(ImageOps.solarize, x, threshold))
    assert torch.equal(px.solarize_add(x, amount), pillow(timm_aa.solarize_add, x, amount))
    assert torch.equal(px.smooth(x), pillow(lambda im: im.filter(ImageFilter.SMOOTH), x))
    grey = torch.stack([torch.from_numpy(
        np.array(Image.fromarray(i.permute(1, 2, 0).numpy()).convert('L'))) for i in x])
    assert torch.equal(px.luma(x)[:, 0], grey.int())
    for f, name in ((px.brightness, 'Brightness'), (px.color, 'Color'), (px.contrast, 'Contrast'),
                    (px.sharpness, 'Sharpness')):
        assert same(f(x, factor), pillow(lambda im, a: getattr(ImageEnhance, name)(im).enhance(a),
                                         x, factor)), name


def test_every_pair_of_bytes_blends_as_in_pillow():
    a, b = (torch.arange(256).byte().repeat_interleave(256).view(256, 256),
            torch.arange(256).byte().repeat(256).view(256, 256))
    one, two = Image.fromarray(a.numpy()), Image.fromarray(b.numpy())
    for f in (0., .1, .19, .5, .55, .999, 1., 1.0001, 1.45, 1.81, 1.9, 3.):
        theirs = torch.from_numpy(np.array(Image.blend(one, two, f)))
        assert same(px.blend(a[None, None].float(), b[None, None], f)[0, 0], theirs), f


def test_every_range_of_bytes_stretches_as_in_pillow():
    low, high = torch.triu_indices(256, 256)
    keep = torch.arange(len(low)) % 7 == 0
    x = torch.stack([low[keep], high[keep],
                     (low[keep] + high[keep]) // 2], 1).byte()[:, None, None].expand(-1, 3, -1, -1)
    assert same(px.autocontrast(x), pillow(ImageOps.autocontrast, x))


@pytest.mark.parametrize('resample', MODES)
@pytest.mark.parametrize('size', SIZES, ids=str)
def test_geometry_is_pillows(size, resample):
    x, mode, fill = batch(*size), MODES[resample], (124, 116, 104)
    rng = np.random.default_rng(2)
    m = torch.from_numpy(rng.normal(0, .4, (len(x), 2, 3)) * [1, 1, 5] + np.eye(2, 3))
    assert same(px.affine(x, m, fill, resample), pillow(
        lambda im, a: im.transform(im.size, Image.AFFINE, sum(a, []), mode, fillcolor=fill), x, m))
    degrees = torch.from_numpy(
        np.r_[0, 90, -90, 180, 360, 27, -27, 45, rng.uniform(-40, 40, len(x) - 8)])
    # quarter turns of oblongs are transposed in Pillow
    if size[0] != size[1]: degrees[1:4] = torch.tensor([80., -80, 170])
    assert same(px.rotate(x, degrees, fill, resample),
                pillow(lambda im, a: im.rotate(a, mode, fillcolor=fill), x, degrees))
    a = torch.from_numpy(rng.uniform(-.45, .45, len(x)))
    for name, theirs in (('shear_x', timm_aa.shear_x), ('shear_y', timm_aa.shear_y),
                         ('translate_x', timm_aa.translate_x_rel),
                         ('translate_y', timm_aa.translate_y_rel)):
        ours = getattr(px, name)(x, a, fill, resample)
        assert same(ours,
                    pillow(lambda im, v: theirs(im, v, fillcolor=fill, resample=mode), x, a)), name


def test_nearest_moves_any_numbers():
    x = torch.randn(4, 5, 20, 20, generator=torch.Generator().manual_seed(0))
    y = px.rotate(x, 31., -7., 'nearest')
    assert (y.dtype == x.dtype and (y == -7).any() and
            set(y.unique().tolist()) <= set(x.unique().tolist()) | {-7.})
    assert torch.equal(px.translate_x(x, .25, 0, 'nearest')[..., :15], x[..., 5:])


def test_a_picture_is_treated_alike_in_any_batch_and_left_as_it_was():
    x, some = batch(16, 16), torch.tensor([7, 2, 2, 11])
    before, p = x.clone(), torch.linspace(.2, 1.9, len(x)).double()
    for f in (px.autocontrast, px.equalize, px.invert, px.smooth):
        assert torch.equal(f(x[some]), f(x)[some])
    for f in (px.color, px.contrast, px.brightness, px.sharpness, px.rotate, px.shear_x, px.shear_y,
              px.translate_x, px.translate_y):
        assert torch.equal(f(x[some], p[some]), f(x, p)[some])
    assert torch.equal(x, before)
    turned = x.permute(0, 1, 3, 2)
    assert not turned.is_contiguous() and torch.equal(px.equalize(turned),
                                                      px.equalize(turned.contiguous()))
    assert torch.equal(px.rotate(turned, p), px.rotate(turned.contiguous(), p))
