"A missing extra of the install is one line with the command; a plain run needs none of them."
import ast, re, subprocess, sys
from configparser import ConfigParser
from pathlib import Path

import pytest

from conftest import NAME, TINY
from snn_repro.core.extras import needed
from snn_repro.core.spec import UserError
from snn_repro.core.distributed import team

root = Path(__file__).parents[1]
config = ConfigParser(delimiters=['='])
config.read(root/'settings.ini', encoding='utf-8')
config = config['DEFAULT']
WITHOUT = '''
import sys
for name in sys.argv.pop(1).split(): sys.modules[name] = None
from snn_repro.cli.main import main
sys.exit(main(sys.argv[1:]))
'''


def declared() -> dict[str, set[str]]:
    "What `settings.ini` asks for: extra -> packages; the core under ''."
    return {k.removesuffix('requirements').rstrip('_'):
            {re.match(r'[\w-]+', r)[0] for r in v.split()}
            for k, v in config.items() if k.endswith('requirements')}


EXTRAS = {e: names for e, names in declared().items() if e not in ('', 'dev')}
PACKAGES = {'sklearn': 'scikit-learn', 'PIL': 'pillow'}   # modules of another name than theirs


def without(packages: str, *args, cwd):
    return subprocess.run([sys.executable, '-c', WITHOUT, packages, *map(str, args)], cwd=cwd,
                          capture_output=True, text=True, timeout=300)


@pytest.mark.slow
@pytest.mark.parametrize('package, extra, args', [
    ('cloudpickle', 'cluster', ['run', NAME, *TINY, '--processes', 2]),
    ('accelerate', 'cluster', ['run', NAME, *TINY, '--processes', 2]),
    ('accelerate', 'cluster', ['reproduce', '--only', 'tks-fig3a', '--processes', 2]),
    ('submitit', 'cluster', ['reproduce', '--only', 'tks-fig3a', '--dry-run']),
    ('tensorboard', 'tensorboard', ['run', NAME, *TINY, '--tensorboard', 'board']),
    ('nir', 'export', ['export', 'RUN', '--to', 'nir']),
    ('onnxscript', 'export', ['export', 'RUN', '--to', 'onnx']),
], ids=lambda v: v[0] if isinstance(v, list) else v)
def test_a_missing_extra_is_one_line_with_the_command(package, extra, args, tmp_path):
    done = without(package, *args, cwd=tmp_path)
    assert (done.returncode, done.stderr.splitlines()) == (1, [
        f'snn-repro: {package}: snn-repro[{extra}] is not installed '
        f'(pip install "snn-repro[{extra}]")'])
    assert not list(tmp_path.iterdir())


def test_a_member_of_a_team_says_it_too(teamed, monkeypatch):
    teamed(0)
    monkeypatch.setitem(sys.modules, 'accelerate', None)
    with pytest.raises(UserError, match=r'accelerate: .* \(pip install "snn-repro\[cluster\]"\)'):
        team()


def test_a_module_that_is_there_is_returned_and_another_fault_is_not_hidden(tmp_path, monkeypatch):
    assert needed('json', 'dev') is sys.modules['json']
    (tmp_path/'broken_package.py').write_text('1/0')
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ZeroDivisionError): needed('broken_package', 'dev')


@pytest.mark.slow
def test_a_plain_run_needs_no_extra(tmp_path):
    ours = set.union(*EXTRAS.values()) - EXTRAS['docs'] - {'cloudpickle'}   # scikit-learn's, too
    blocked = ' '.join({*ours, 'timm', 'torchaudio'})
    done = without(blocked, 'run', NAME, *TINY, '--out', 'runs', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob('runs/*/done.json'))) == 1


def imported_and_needed() -> tuple[set, set]:
    "The modules that `snn_repro` imports by name, and the pairs (module, extra) that it needs."
    imports, asked = set(), set()
    for file in root.glob('snn_repro/**/*.py'):
        for n in ast.walk(ast.parse(file.read_text())):
            if isinstance(n, ast.Import): imports |= {a.name for a in n.names}
            elif isinstance(n, ast.ImportFrom) and not n.level:
                imports |= {f'{n.module}.{a.name}' for a in n.names}
            elif isinstance(n, ast.Call) and getattr(n.func, 'id', '') == 'needed':
                if all(isinstance(a, ast.Constant) for a in n.args):
                    asked.add(tuple(a.value for a in n.args))
    return imports, asked


def test_every_package_that_is_imported_is_declared():
    imports, asked = imported_and_needed()
    tops = {n.partition('.')[0] for n in imports} - sys.stdlib_module_names - {'snn_repro'}
    assert {PACKAGES.get(n, n) for n in tops} <= set.union(*declared().values())
    assert asked and all(m.rpartition('.')[2] in EXTRAS[e] for m, e in asked)


def test_nothing_stands_on_torchaudio():
    # spikingjelly.datasets imports it, which fails where torch is newer
    imports = imported_and_needed()[0]
    assert 'spikingjelly.activation_based.neuron' in imports
    assert not [n for n in imports if n.startswith(('torchaudio', 'spikingjelly.datasets'))]


def test_the_readme_names_the_pythons_that_are_tried():
    *most, last = config['pythons'].split()
    assert f'on Python {", ".join(most)} or {last}.' in (root/'README.md').read_text()
    assert config['min_python'] in (most or [last])
