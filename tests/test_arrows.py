"""A chapter imports chapters with smaller numbers; a plain module imports only what design allows
it."""
import ast, json, re
from pathlib import Path

import pytest

root = Path(__file__).parents[1]
package = root/'snn_repro'

# Plain modules stand between the chapters: each imports only modules of a lower place.
PLAIN = {'surroundings': -4, 'identity': -4, 'spec': -3, 'files': -2, 'archives': -1.5,
         'kernels': -1, 'checkpoint': -1.7, 'work': 44.05, 'launch': 44.1, 'watch': 44.15,
         'unseen': 44.12, 'estimate': 44.16, 'slurm': 44.16, 'ledger': 44.16, 'verify': 44.17,
         'compared': 44.22, 'report': 44.25, 'summary': 44.3, 'options': 99, 'cli': 100}
TORCH_FREE = {'surroundings', 'identity', 'spec', 'files', 'archives', 'metrics', 'runs', 'stats',
              'tables', 'figures', 'watch', 'options', 'catalogue', 'report', 'ledger', 'verify',
              'summary',
              'replication', 'early', 'compared'}


def chapters():
    for nb in sorted((root/'nbs').glob('[0-9]*.ipynb')):
        source = '\n'.join(''.join(c['source'])
                           for c in json.loads(nb.read_text())['cells'] if c['cell_type'] == 'code')
        found = re.search(r'^#\| *default_exp +(\S+)', source, re.M)
        # 25, 25b, 25c are a chapter and its continuations
        if found: yield found[1], int(nb.name[:2]) + 'abcdefgh'.find(nb.name[2]) / 10


PLACE = PLAIN | dict(chapters())


def name(path): return '.'.join(path.relative_to(package).with_suffix('').parts)

def modules():
    return sorted(p for p in package.rglob('*.py')
                  if p.name not in ('__init__.py', '_modidx.py', '__main__.py'))


def imports(path):
    "Modules of this package that a file imports, at any depth of its code."
    here = ('snn_repro', *path.relative_to(package).parent.parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import): found = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ('.'.join([*here[:len(here) - node.level + 1],
                              *([node.module] if node.module else [])])
                    if node.level else node.module)
            found = ([f'{base}.{a.name}'
                      if (package/base.partition('.')[2].replace('.', '/')/f'{a.name}.py').exists()
                      else base for a in node.names] if base.startswith('snn_repro') else [base])
        else: continue
        yield from (f for f in found)


@pytest.mark.parametrize('path', modules(), ids=name)
def test_arrows_point_down(path):
    me = name(path)
    assert me in PLACE, f'{me} is neither a chapter nor a plain module with a place'
    # a notebook may need its own module by name
    ours = {f.partition('.')[2] for f in imports(path) if f.startswith('snn_repro.')} - {me}
    up = {o for o in ours if PLACE[o] >= PLACE[me]}
    assert not up, f'{me} imports {up}, which stand above it'


@pytest.mark.parametrize('path', modules(), ids=name)
def test_modules_can_be_held_in_the_head(path):
    lines = len(path.read_text().splitlines())
    assert lines <= (150 if name(path) == 'cli' else 300)


@pytest.mark.parametrize('module', sorted(TORCH_FREE))
def test_readers_of_records_do_not_import_torch(module):
    found = {f.split('.')[0] for f in imports(package/f'{module}.py')}
    assert not found & {'torch', 'spikingjelly'}


def test_the_test_sees_an_arrow_that_goes_up(tmp_path, monkeypatch):
    assert PLACE['training'] > PLACE['metrics']
    assert 'snn_repro.metrics' in set(imports(package/'training.py'))
