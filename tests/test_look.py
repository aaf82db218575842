"Figures have one look, which is read on a light page and on a dark one."
import base64, io, json, re
from pathlib import Path

import matplotlib
import pytest
from PIL import Image

from snn_repro.analysis.figures import INKS, STYLE

root = Path(__file__).parents[1]
books = sorted(root.glob('nbs/[0-9]*/*.ipynb'))
NAMED = "plt.style.use('snn_repro.assets.figures')"
REDRAWN = [*root.glob('nbs/[0128]*/*.ipynb'), root/'nbs/index.ipynb']   # since there is a look


def code(path) -> str:
    cells = json.loads(path.read_text())['cells']
    return '\n'.join(''.join(c['source']) for c in cells if c['cell_type'] == 'code')


def pictures(path) -> list[Image.Image]:
    outputs = [o for c in json.loads(path.read_text())['cells'] for o in c.get('outputs', [])]
    found = [o['data']['image/png'] for o in outputs if 'image/png' in o.get('data', {})]
    return [Image.open(io.BytesIO(base64.b64decode(''.join(f)))).convert('RGB') for f in found]


def luminance(colour) -> float:
    "Relative luminance, 0 to 1, by WCAG 2."
    parts = [c / 12.92 if c <= .04045 else ((c + .055) / 1.055)**2.4
             for c in matplotlib.colors.to_rgb(colour)]
    return sum(w * c for w, c in zip((.2126, .7152, .0722), parts))


def contrast(a, b) -> float:
    dark, light = sorted([luminance(a), luminance(b)])
    return (light + .05) / (dark + .05)


def test_every_chapter_that_draws_names_the_look():
    drawing = [p for p in books if 'import matplotlib.pyplot as plt' in code(p)]
    assert len(drawing) > 30
    assert [p.stem for p in drawing if NAMED not in code(p)] == []


@pytest.mark.parametrize('path', books, ids=lambda p: f'{p.parent.name[0]}.{p.stem}')
def test_no_text_is_set_smaller_than_nine_points_on_screen(path):
    sizes = [float(s) for s in re.findall(r'(?:font_?size|set_fontsize\()[=\s(]*(\d+\.?\d*)',
                                          code(path))]
    assert [s for s in sizes if s * STYLE['figure.dpi'] / 96 < 9] == []


def test_the_look_is_legible():
    ground = STYLE['figure.facecolor']
    assert .7 < luminance(ground) < .95   # neither glaring in the dark nor grey in the light
    assert STYLE['axes.facecolor'] == ground
    assert all(contrast(STYLE[k], ground) > 7 for k in
               ('text.color', 'axes.labelcolor', 'xtick.color', 'ytick.color'))
    assert all(contrast(ink, ground) > 1.7 for ink in INKS)
    assert contrast(*INKS[:1], ground) > 15


@pytest.mark.parametrize('path', REDRAWN, ids=lambda p: f'{p.parent.name[0]}.{p.stem}')
def test_first_chapters_show_it(path):
    ground = tuple(round(255 * c) for c in matplotlib.colors.to_rgb(STYLE['figure.facecolor']))
    for picture in pictures(path):
        assert all(abs(a - b) < 8 for a, b in zip(picture.getpixel((1, 1)), ground))
