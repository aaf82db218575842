"""Arrows between modules point one way (`pyproject.toml` says which), readers of records do without
torch, and a module can be held in the head."""
import ast, json, re, shutil, subprocess, sys
from importlib import import_module
from pathlib import Path

import pytest

root = Path(__file__).parents[1]
package = root/'snn_repro'
# Parts whose modules import torch nowhere, and single modules of other parts.
TORCH_FREE = ['core/spec', 'core/files', 'core/identity', 'core/brought', 'core/system',
              'core/text', 'metrics/classification', 'metrics/energy', 'records/runs',
              'records/ledger', 'records/queue', 'records/seen', 'experiments/tiers',
              'data/download', 'cli/options', 'cli/status', 'cli/finished', 'cli/examples',
              'cli/listing', 'cli/main'] + [f'analysis/{name}' for name in (
                  'stats', 'tables', 'figures', 'effects', 'catalogue', 'claims', 'replication',
                  'early_losses', 'planned', 'comparison', 'summary', 'report', 'verify', 'groups',
                  'markup', 'forest', 'page')]


def name(path): return path.relative_to(package).with_suffix('').as_posix()


def modules(): return sorted(p for p in package.rglob('*.py') if p.name not in ('_modidx.py',))


def lint(folder):
    "What import-linter says of the package in `folder`."
    command = [Path(sys.executable).parent/'lint-imports', '--no-cache']
    return subprocess.run(command, cwd=folder, env={'PYTHONPATH': str(folder), 'PATH': ''},
                          capture_output=True, text=True)


def test_arrows_point_down():
    done = lint(root)
    assert done.returncode == 0 and '13 kept, 0 broken' in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize('module, line', [
    ('core/text', 'from snn_repro.metrics import energy'),
    ('nn/kernels', 'from snn_repro.nn import layers'),
    ('core/new', '')])
def test_an_arrow_that_goes_up_or_a_module_without_a_place_is_seen(module, line, tmp_path):
    shutil.copytree(package, tmp_path/'snn_repro',
                    ignore=shutil.ignore_patterns('__pycache__', 'assets'))
    shutil.copy(root/'pyproject.toml', tmp_path)
    with (tmp_path/'snn_repro'/f'{module}.py').open('a') as f: f.write(f'\n{line}\n')
    assert lint(tmp_path).returncode != 0


@pytest.mark.parametrize('path', modules(), ids=name)
def test_modules_can_be_held_in_the_head(path):
    lines = len(path.read_text().splitlines())
    assert lines <= 300


def imported(path):
    "The packages that a file imports when it is imported."
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import): yield from (a.name.split('.')[0] for a in node.names)
        if isinstance(node, ast.ImportFrom) and not node.level: yield node.module.split('.')[0]


@pytest.mark.parametrize('module', TORCH_FREE)
def test_readers_of_records_do_not_import_torch(module):
    assert not set(imported(package/f'{module}.py')) & {'torch', 'spikingjelly'}


@pytest.mark.parametrize('part', ['snn_repro', 'snn_repro.models', 'snn_repro.data'])
def test_an_editor_sees_the_names_that_load_late(part):
    home = root.joinpath(*part.split('.'))/'__init__.py'
    typed = {a.name for n in ast.walk(ast.parse(home.read_text())) if isinstance(n, ast.ImportFrom)
             for a in n.names} - {'TYPE_CHECKING', 'lazy'}
    module = import_module(part)
    assert typed == set(module.__all__) and all(hasattr(module, n) for n in typed)


def test_a_chapter_and_its_module_bear_one_name():
    chapters = sorted((root/'nbs').glob('[0-9]_*/[0-9][0-9]_*.ipynb'))
    assert len(chapters) == 103
    for path in chapters:
        cells = json.loads(path.read_text())['cells']
        code = '\n'.join(''.join(c['source']) for c in cells if c['cell_type'] == 'code')
        found = re.search(r'^#\| *default_exp +(\S+)', code, re.M)
        if found: assert found[1].split('.')[-1] == path.stem[3:], path


def test_no_two_modules_share_a_public_name():
    "But for what answers a verb of the command line, which is named as it is typed."
    homes = {}
    for path in modules():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith('_'):
                homes.setdefault(node.name, []).append(name(path))
    assert len(homes) > 500
    twice = {k: v for k, v in homes.items() if len(set(v) - {'cli/verbs'}) > 1}
    assert not twice, twice
