"The README says what the index says, its snippets run, and its picture is there."
<<<<<<< HEAD
import re, subprocess, sys
=======
import json, re, shlex, subprocess, sys
from pathlib import Path
>>>>>>> 1e8be2e (README is a page: a picture, two commands, what came out in five lines; the rest moved to chapters 0.3, 0.4, 8.18 and 9.11. CONTRIBUTING, CITATION)

import pytest

from snn_repro.cli.options import parser
from snn_repro.cli.verbs import VERBS
from readme import PICTURES, readme, root

text = (root/'README.md').read_text() if (root/'README.md').exists() else ''
snippets = re.findall(r'```python\n(.*?)```', text, re.S)


def test_readme_is_made_from_the_index():
    for path, content in readme().items():
        assert (root/path).read_bytes() == content, f'{path}: run `python tests/readme.py`'
    assert {f'{PICTURES}/{p.name}' for p in (root/PICTURES).iterdir()} < {*readme()}


def test_it_is_short_and_has_a_snippet():
    assert len(snippets) == 1 and len(text.splitlines()) < 130


@pytest.mark.parametrize('code', snippets, ids=[f'snippet{i + 1}' for i in range(len(snippets))])
def test_a_snippet_runs_by_itself(code, tmp_path):
    done = subprocess.run([sys.executable, '-c', code], cwd=tmp_path, capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stderr


def test_its_pictures_say_what_they_show():
    shown = re.findall(r'!\[([^\]]*)\]\(\S+\.png\)', text)
    assert len(shown) == 2 and 'TKS' in shown[0] and 'Runs:' in shown[1]


def test_the_two_commands_are_named(): assert 'make reproduce' in text and 'make test' in text
<<<<<<< HEAD
=======


COMMAND = re.compile(r'^\s*((?:snn-repro|accelerate launch .* -m snn_repro) .*)$', re.M)
page = root/'nbs/0_start/04_commands.ipynb'
commands = [c for t in [text, '\n'.join(''.join(c['source']) + '\n' for c in
                                         json.loads(page.read_text())['cells'])]
            for fence in re.findall(r'```sh\n(.*?)```', t, re.S) for c in COMMAND.findall(fence)]


def test_the_commands_are_found(): assert len(commands) > 20


@pytest.mark.parametrize('line', commands)
def test_a_command_is_one(line):
    words = re.split(r'snn[-_]repro ', line, maxsplit=1)[1]
    parser(*VERBS).parse_args(shlex.split(words, comments=True))


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
>>>>>>> 1e8be2e (README is a page: a picture, two commands, what came out in five lines; the rest moved to chapters 0.3, 0.4, 8.18 and 9.11. CONTRIBUTING, CITATION)
