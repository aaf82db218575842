"The README says what the index says, its snippets run, and its picture is there."
import re, subprocess, sys

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
