"The exported library and the notebooks say the same, the notebooks are clean and have outputs."
import json, re, shutil, subprocess, sys
from pathlib import Path

import pytest

root = Path(__file__).parents[1]
notebooks = sorted(p for p in (root/'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in p.parts)
assert len(notebooks) == 104   # a chapter that is not found would pass


def run_on_copy(tmp_path, tool):
    for part in ('nbs', 'snn_repro', 'settings.ini', 'setup.py'):
        source = root/part
        if source.is_dir():
            shutil.copytree(source, tmp_path/part,
                            ignore=shutil.ignore_patterns('__pycache__', '.ipynb_checkpoints'))
        else: shutil.copy(source, tmp_path)
    subprocess.run([Path(sys.executable).parent/tool], cwd=tmp_path, check=True)
    return tmp_path


def differing(copy, pattern):
    files = [p.relative_to(copy) for p in copy.glob(pattern)]
    assert files
    return [str(f) for f in files if not (root/f).exists() or
            (root/f).read_bytes() != (copy/f).read_bytes()]


def test_library_is_exported(tmp_path):
    assert differing(run_on_copy(tmp_path, 'nbdev_export'), 'snn_repro/**/*.py') == []


def test_notebooks_are_clean(tmp_path):
    assert differing(run_on_copy(tmp_path, 'nbdev_clean'), 'nbs/**/*.ipynb') == []


@pytest.mark.parametrize('path', notebooks, ids=lambda p: p.stem)
def test_notebook_has_outputs_and_no_error(path):
    cells = [c for c in json.loads(path.read_text())['cells'] if c['cell_type'] == 'code']
    outputs = [o for c in cells for o in c['outputs']]
    assert outputs
    assert not [o for o in outputs if o['output_type'] == 'error']


@pytest.mark.parametrize('path', notebooks, ids=lambda p: p.stem)
def test_nothing_in_the_title_is_taken_for_settings(path):
    """nbdev reads lines such as '- key: value' of the first cell as settings, and shows them
    nowhere."""
    first = ''.join(json.loads(path.read_text())['cells'][0]['source'])
    assert first.startswith('# ') and not re.findall(r'^-\s.*:.*\S', first, re.M)
