"""Links in notebooks and README lead somewhere: to files, to headings, to the chapters that are
mentioned; and each chapter ends with the way to its neighbours."""
import json, re, shutil
from pathlib import Path

import pytest

from neighbours import ID, chapters, last_cells, root, write

books = [root/'nbs/index.ipynb', *chapters(root/'nbs')]
pages = [*books, root/'README.md', root/'CHANGELOG.md']
LINK = re.compile(r'!?\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)')
CODE = re.compile(r'```.*?```|`[^`\n]*`', re.S)


def texts(path: Path) -> list[str]:
    "The Markdown of a page: of a notebook its cells and what its code shows. Code is left out."
    if path.suffix == '.md': return [CODE.sub('', path.read_text(encoding='utf-8'))]
    cells = json.loads(path.read_text(encoding='utf-8'))['cells']
    prose = [c['source'] for c in cells if c['cell_type'] == 'markdown']
    shown = [o['data']['text/markdown'] for c in cells for o in c.get('outputs', [])
             if 'text/markdown' in o.get('data', {})]
    return [CODE.sub('', ''.join(t)) for t in prose + shown]


def anchors(path: Path) -> set[str]:
    """What may follow `#`: in a notebook a heading with hyphens for spaces, as JupyterLab and
    nbconvert have it; in Markdown as GitHub does, in lower case without punctuation."""
    heads = [h for t in texts(path) for h in re.findall(r'^#{1,6} +(.*?) *$', t, re.M)]
    if path.suffix == '.ipynb': return {h.replace(' ', '-') for h in heads}
    return {re.sub(r'[^\w\- ]', '', h.lower()).replace(' ', '-') for h in heads}


def number(path: Path) -> str:
    "A chapter's number, 1.2 for 1_neurons/02_layers."
    return f'{path.parent.name[0]}.{int(path.stem[:2])}'


def dead(path: Path, text: str) -> list[str]:
    """The links of a text, from where `path` is, that lead nowhere, or to another chapter than the
    one whose number they begin with."""
    def leads(label, target):
        file, _, heading = target.partition('#')
        there = (path.parent/file).resolve() if file else path
        said = re.match(r'(?:[Cc]hapter )?(\d\.\d+)\b', label)
        return (there.exists() and (not heading or heading in anchors(there))
                and (not said or said[1] == number(there)))
    return [t for label, t in LINK.findall(text)
            if not re.match(r'[a-z]+:', t) and not leads(label, t)]


def unlinked(text: str) -> list[str]:
    "Chapters that a text mentions by their number without a link."
    return re.findall(r'[Cc]hapters?\s+(?:§[,\s]*(?:and|or|to)?\s*)*\d\.\d+', LINK.sub('§', text))


@pytest.mark.parametrize('path', pages, ids=lambda p: p.stem)
def test_every_link_leads_somewhere(path):
    for text in texts(path): assert dead(path, text) == []


@pytest.mark.parametrize('path', books, ids=lambda p: p.stem)
def test_every_chapter_that_is_mentioned_is_linked(path):
    for text in texts(path):
        assert unlinked(text) == []
        assert not re.findall(r'ipynb\)[a-g]\b|[Nn]otebooks? \d\d', text)   # as they were once


def test_a_chapter_that_code_names_is_there():
    files = [*(root/'snn_repro').rglob('*.py'), *(root/'snn_repro/assets').glob('*.[ct]*')]
    named = {n for p in files
             for group in re.findall(r'[Cc]hapters? ((?:[\d.a-g]+(?:, and |, | and | to )?)+)',
                                     p.read_text(encoding='utf-8'))
             for n in re.findall(r'[\d.a-g]*\d[\d.a-g]*', group)}
    assert len(named) > 10 and {n.rstrip('.') for n in named} <= set(map(number, books[1:]))


def test_the_links_are_many():
    assert sum(len(LINK.findall(t)) for p in books for t in texts(p)) > 300


def test_the_tests_see_what_is_wrong():
    here = root/'nbs/1_neurons/01_neurons.ipynb'
    wrong = ['[a](02_nothing.ipynb)', '[a](#No-such-heading)', '[a](02_layers.ipynb#nothing)',
             '![a](nothing.png)', '[a [b]](nothing.ipynb)',
             '[1.3](02_layers.ipynb)', '[Chapter 1.3 Blocks](02_layers.ipynb)']
    right = ['[a](02_layers.ipynb)', '[1.2 Layers](02_layers.ipynb)',
             '[a](https://example.org/x#y)', '[a](#The-readable-loop)',
             '[a](02_layers.ipynb#Time-folded-into-the-batch)']
    assert all(dead(here, t) for t in wrong) and not any(dead(here, t) for t in right)
    assert anchors(root/'README.md') >= {'two-commands', 'what-came-out'}
    assert unlinked('as chapter 1.2 says') and unlinked('chapters [1.1](x) and 1.2, and')
    assert not unlinked('chapter [1.2](x) has 0.5 of it')


# Previous and next

@pytest.mark.parametrize('path', books[1:], ids=lambda p: p.stem)
def test_a_chapter_ends_with_its_neighbours(path):
    cells = json.loads(path.read_text(encoding='utf-8'))['cells']
    assert cells[-1]['id'] == ID, 'run `python tests/neighbours.py`'
    assert ''.join(cells[-1]['source']) == last_cells(root/'nbs')[path]


def test_neighbours_are_written_once_and_follow_a_new_chapter(tmp_path):
    nbs = tmp_path/'nbs'
    for name in ('01_tour', '02_words'):
        (nbs/'0_start').mkdir(parents=True, exist_ok=True)
        shutil.copy(root/f'nbs/0_start/{name}.ipynb', nbs/'0_start')
    write(nbs)
    before = {p: p.read_bytes() for p in chapters(nbs)}
    write(nbs)
    assert before == {p: p.read_bytes() for p in chapters(nbs)}
    (nbs/'1_more').mkdir()
    shutil.copy(nbs/'0_start/02_words.ipynb', nbs/'1_more/01_again.ipynb')
    write(nbs)
    ends = [json.loads(p.read_text())['cells'][-1]['source'][0] for p in chapters(nbs)]
    assert '1_more/01_again' in ends[1] and '0_start/02_words' in ends[2]
    assert [e.count('→') for e in ends] == [1, 1, 0]
