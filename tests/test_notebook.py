"What chapters show: errors as a line, pictures with sliders where somebody can move them."
import json, re, sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from neighbours import ID
from snn_repro.core.notebook import refusal, with_sliders
from snn_repro.core.spec import UserError

root = Path(__file__).parents[1]
books = sorted((root/'nbs').glob('[0-9]_*/[0-9][0-9]_*.ipynb'))


def refuse(what, where=''): raise UserError(what, where)


def test_a_refusal_is_its_line():
    assert refusal(refuse, 'no such step', where='net') == 'net: no such step'
    with pytest.raises(AssertionError): refusal(str, 1)
    with pytest.raises(ZeroDivisionError): refusal(lambda: 1 / 0)


@pytest.mark.parametrize('kind', [str, Path])
def test_a_refusal_hides_a_path_wherever_it_stands(kind, tmp_path):
    what = f'like {tmp_path}/b'
    said = refusal(refuse, what, where=f'{tmp_path}/a', hide=kind(tmp_path))
    assert said == '…/a: like …/b'
    assert refusal(refuse, what, where='a') == f'a: {what}'   # nothing is hidden unasked


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


# The frame of each chapter

RESULTS = [p for p in books if p.parent.name[0] == '8']
GUIDES = '03_your_project', '04_commands', '11_benchmarks'   # to look up: nothing to practise
LESSONS = [p for p in books if p not in RESULTS and p.stem not in GUIDES]
LEADS = ['**What it answers.**', '**What you need.**', '**What you have at its end.**']


def cells_of(path: Path) -> list[tuple[str, str]]:
    "Kind and source of each cell."
    return [(c['cell_type'], ''.join(c['source'])) for c in json.loads(path.read_text())['cells']]


@pytest.mark.parametrize('path', books, ids=lambda p: p.stem)
def test_a_chapter_begins_with_what_it_answers(path):
    kind, first = cells_of(path)[0]
    assert kind == 'markdown' and [l for l in LEADS if l in first] == LEADS


@pytest.mark.parametrize('path', books, ids=lambda p: p.stem)
def test_headings_stand_alone(path):
    prose = [s for kind, s in cells_of(path)[1:] if kind == 'markdown']
    heads = [s for s in prose if s.startswith('##')]
    assert not [s for s in prose if '\n## ' in s or '\n### ' in s]
    assert heads and not [h for h in heads if '\n' in h]


@pytest.mark.parametrize('path', LESSONS, ids=lambda p: p.stem)
def test_the_last_parts_are_there(path):
    heads = [s for kind, s in cells_of(path) if kind == 'markdown' and s.startswith('##')]
    last = ['## What can go wrong', '## What to take along', '## Exercises']
    assert [h for h in heads if h in last] == last


@pytest.mark.parametrize('path', LESSONS, ids=lambda p: p.stem)
def test_each_exercise_has_a_folded_answer_and_a_cell_computes_them(path):
    cells = json.loads(path.read_text())['cells']
    sources = [''.join(c['source']) for c in cells]
    at = sources.index('## Exercises')
    asked = [s for s in sources[at:] if s[:1].isdigit() and s[1:3] == '. ']
    answered = [s for s in sources[at:] if s.startswith('<details><summary>')]
    computed = [c for c in cells[at:] if 'hide-cell' in c['metadata'].get('tags', [])]
    assert 2 <= len(asked) == len(answered) <= 4 and len(computed) == 1
    assert all('</details>' in s for s in answered) and 'assert' in ''.join(computed[0]['source'])
    assert computed[0]['metadata']['jupyter']['source_hidden']


@pytest.mark.parametrize('path', RESULTS, ids=lambda p: p.stem)
def test_a_result_ends_in_sentences_whose_numbers_a_cell_computed(path):
    cells = json.loads(path.read_text())['cells']
    at = [''.join(c['source']) for c in cells].index('## What to take along')
    last, (computed, after) = [], cells[at + 1:]
    for o in computed['outputs']: last += ''.join(o['data']['text/markdown']).split('\n- ')
    told = [line.removeprefix('- ') for line in last if not line.rstrip().endswith(':')]
    assert 1 <= len(told) <= 3 and all(re.search(r'\d', line) for line in told)
    assert after['id'] == ID
