"What chapters show: errors as a line, pictures with sliders where somebody can move them."
import json, sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from snn_repro.core.notebook import refusal, with_sliders
from snn_repro.core.spec import UserError

root = Path(__file__).parents[1]
books = sorted((root/'nbs').glob('[0-9]_*/[0-9][0-9]_*.ipynb'))


def refuse(what, where=''): raise UserError(what, where)


def test_a_refusal_is_its_line():
    assert refusal(refuse, 'no such step', where='net') == 'net: no such step'
    with pytest.raises(AssertionError): refusal(str, 1)
    with pytest.raises(ZeroDivisionError): refusal(lambda: 1 / 0)


@pytest.fixture
def drawn(monkeypatch):
    "What was drawn, with which sliders; nobody looks on, and ipywidgets is there."
    seen = []
    for name in ('JPY_SESSION_NAME', 'VSCODE_PID'): monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(sys.modules, 'ipywidgets', SimpleNamespace(
        interact=lambda draw, **ranges: seen.append(ranges)))
    return seen


def test_a_picture_stays_a_picture_where_nobody_looks_on(drawn, monkeypatch):
    monkeypatch.setitem(sys.modules, 'ipywidgets', None)
    with_sliders(lambda tau=2.: drawn.append(tau), tau=(1., 3., .1))
    assert drawn == [2.]


def test_it_has_sliders_in_an_open_notebook(drawn, monkeypatch):
    monkeypatch.setenv('JPY_SESSION_NAME', 'tour.ipynb')
    with_sliders(lambda tau=2.: drawn.append(tau), tau=(1., 3., .1))
    assert drawn == [dict(tau=(1., 3., .1))]


def test_without_ipywidgets_it_is_a_picture_and_one_line(drawn, monkeypatch, capsys):
    monkeypatch.setenv('JPY_SESSION_NAME', 'tour.ipynb')
    monkeypatch.setitem(sys.modules, 'ipywidgets', None)
    with_sliders(lambda tau=2.: drawn.append(tau), tau=(1., 3., .1))
    said = capsys.readouterr().out
    assert drawn == [2.] and said.count('\n') == 1 and 'pip install ipywidgets' in said


@pytest.mark.parametrize('path', books, ids=lambda p: p.stem)
def test_a_chapter_is_kept_with_its_pictures_not_with_widgets(path):
    "A widget is empty on a page that no kernel stands behind."
    book = json.loads(path.read_text())
    kinds = {k for c in book['cells'] for o in c.get('outputs', []) for k in o.get('data', {})}
    assert 'application/vnd.jupyter.widget-view+json' not in kinds
    assert 'widgets' not in book['metadata']
