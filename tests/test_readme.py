"The README says what the index says, its snippets run, and its picture is there."
import json, re, subprocess, sys
from pathlib import Path

import pytest

from readme import readme, root

text = (root/'README.md').read_text() if (root/'README.md').exists() else ''
snippets = re.findall(r'```python\n(.*?)```', text, re.S)


def test_readme_is_made_from_the_index():
    for path, content in readme().items():
        assert (root/path).read_bytes() == content, f'{path}: run `python tests/readme.py`'


def test_there_are_three_snippets(): assert len(snippets) == 3


@pytest.mark.parametrize('code', snippets, ids=[f'snippet{i + 1}' for i in range(len(snippets))])
def test_a_snippet_runs_by_itself(code, tmp_path):
    done = subprocess.run([sys.executable, '-c', code], cwd=tmp_path, capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stderr


def test_its_pictures_say_what_they_show():
    shown = re.findall(r'!\[([^\]]*)\]\(\S+\.png\)', text)
    assert len(shown) == 2 and all('Runs:' in words for words in shown)


def test_the_two_commands_are_named(): assert 'make reproduce' in text and 'make test' in text


def test_every_linked_file_exists():
    for target in re.findall(r'\]\((?!http)([^)#]+)', text): assert (root/target).exists(), target


# Links between chapters

books = sorted(p for p in (root/'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in p.parts)
LINK = re.compile(r'\[([^\]]*)\]\((?!https?:|#)([^)#\s]+)(?:#[^)]*)?\)')


def shown(path: Path) -> list[str]:
    "The Markdown of a notebook: its cells and what its code shows."
    cells = json.loads(path.read_text())['cells']
    outputs = [o['data']['text/markdown'] for c in cells for o in c.get('outputs', [])
               if 'text/markdown' in o.get('data', {})]
    prose = [c['source'] for c in cells if c['cell_type'] == 'markdown']
    return [''.join(text) for text in prose + outputs]


@pytest.mark.parametrize('path', books, ids=lambda p: p.stem)
def test_every_link_leads_to_the_chapter_that_it_names(path):
    for text in shown(path):
        for label, target in LINK.findall(text):
            there = (path.parent/target).resolve()
            assert there.exists(), target
            if re.fullmatch(r'\d\.\d+', label):
                assert label == f'{there.parent.name[0]}.{int(there.stem[:2])}', target


@pytest.mark.parametrize('path', books, ids=lambda p: p.stem)
def test_a_chapter_that_is_mentioned_is_linked(path):
    for text in shown(path):
        assert not re.findall(r'[Cc]hapters? \d[\d.a-g]*', text)
        assert not re.findall(r'\(\d\d[a-g]?\)|ipynb\)[a-g]\b|notebooks? \d\d', text)


def test_a_chapter_that_code_names_is_there():
    there = {f'{p.parent.name[0]}.{int(p.stem[:2])}' for p in books if p.stem != 'index'}
    files = [*(root/'snn_repro').rglob('*.py'), *(root/'snn_repro/assets').glob('*.[ct]*')]
    named = {n for p in files
             for group in re.findall(r'[Cc]hapters? ((?:[\d.a-g]+(?:, and |, | and | to )?)+)',
                                     p.read_text(encoding='utf-8'))
             for n in re.findall(r'[\d.a-g]*\d[\d.a-g]*', group)}
    assert len(named) > 10 and {n.rstrip('.') for n in named} <= there


def test_the_links_are_many():
    assert sum(len(LINK.findall(t)) for p in books for t in shown(p)) > 150
