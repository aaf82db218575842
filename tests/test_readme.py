"The README says what the index says, its snippets run, and its picture is there."
import json, re, shlex, subprocess, sys

import pytest

from readme import PICTURES, readme, root
from snn_repro.cli.options import parser
from snn_repro.cli.verbs import VERBS

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
    assert len(shown) == 2 and 'TKS' in shown[0] and 'seeds' in shown[1]


def test_the_two_commands_are_named(): assert 'make reproduce' in text and 'make test' in text


COMMAND = re.compile(r'^\s*((?:snn-repro|accelerate launch .* -m snn_repro) .*)$', re.M)
page = json.loads((root/'nbs/0_start/04_commands.ipynb').read_text())
commands = [c for t in [text, '\n'.join(''.join(c['source']) + '\n' for c in page['cells'])]
            for fence in re.findall(r'```sh\n(.*?)```', t, re.S) for c in COMMAND.findall(fence)]


def test_the_commands_are_found(): assert len(commands) > 20


@pytest.mark.parametrize('line', commands)
def test_a_command_is_one(line):
    words = re.split(r'snn[-_]repro ', line, maxsplit=1)[1]
    parser(*VERBS).parse_args(shlex.split(words, comments=True))
