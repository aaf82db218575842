"What only a release needs to know: `make release-test`."
import os, re, shutil, subprocess, sys
from configparser import ConfigParser
from pathlib import Path
from zipfile import ZipFile

import pytest

root = Path(__file__).parents[1]
pytestmark = [pytest.mark.release, pytest.mark.skipif(not os.environ.get('SNN_REPRO_RELEASE'),
                                                      reason='takes minutes: `make release-test`')]
config = ConfigParser(delimiters=['='])
config.read(root/'settings.ini', encoding='utf-8')
PYTHONS = config['DEFAULT']['pythons'].split()
GIGABYTES, PATIENCE = 8, 300   # what the newest torch takes, and seconds for its download
# what a fresh torch may change; neither a team nor a cluster is in it
CORE = ('neurons', 'models', 'runs')


def run(*command, cwd, **how):
    done = subprocess.run([str(c) for c in command], cwd=cwd, capture_output=True, text=True, **how)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp('wheel')
    run(sys.executable, '-m', 'build', '--wheel', '--outdir', folder, root, cwd=folder)
    return next(folder.glob('*.whl'))


def python(version: str) -> Path | None:
    "An interpreter of that version here: on the path, or one of pyenv's."
    pyenv = Path(os.environ.get('PYENV_ROOT', Path.home()/'.pyenv'))
    found = [shutil.which(f'python{version}'),
             *sorted(pyenv.glob(f'versions/{version}.*/bin/python{version}'))]
    return next((Path(p) for p in found if p and
                 not subprocess.run([p, '-c', ''], capture_output=True).returncode), None)


def test_the_wheel_works_in_an_empty_environment(wheel, tmp_path):
    assert 'snn_repro/py.typed' in ZipFile(wheel).namelist()
    run(sys.executable, '-m', 'venv', 'empty', cwd=tmp_path)
    run('empty/bin/pip', 'install', '-q', '-c', root/'constraints.txt', wheel, cwd=tmp_path)
    elsewhere = tmp_path/'elsewhere'
    elsewhere.mkdir()
    assert 'tks-table3' in run('../empty/bin/snn-repro', 'list', cwd=elsewhere)
    said = run('../empty/bin/snn-repro', 'reproduce', '--only', 'tks-table3', '--tables',
               cwd=elsewhere)
    assert ('Not compared with our runs' in said and '96.35' in said and
            (elsewhere/'reports/mini/index.html').exists())


@pytest.mark.parametrize('version', PYTHONS)
def test_the_core_works_with_the_newest_of_everything(version, wheel, tmp_path):
    """On the newest Python at hand; with SNN_REPRO_RELEASE=all on each. No constraints: what a user
    gets who installs today."""
    here = [v for v in PYTHONS if python(v)]
    if version not in here: pytest.skip(f'there is no Python {version}')
    if version != here[-1] and os.environ['SNN_REPRO_RELEASE'] != 'all':
        pytest.skip(f'Python {here[-1]} is tried; SNN_REPRO_RELEASE=all tries each')
    free = shutil.disk_usage(tmp_path).free/2**30
    if free < GIGABYTES: pytest.skip(f'{free:.0f} GB are free, the newest torch takes {GIGABYTES}')
    try: with_the_newest(python(version), wheel, tmp_path)
    finally: shutil.rmtree(tmp_path/'new', ignore_errors=True)


def with_the_newest(python: Path, wheel: Path, home: Path):
    run(python, '-m', 'venv', 'new', cwd=home)
    pip = home/'new/bin/pip'
    asked = subprocess.run([pip, 'download', '-q', '--no-deps', 'iniconfig'], cwd=home,
                           capture_output=True, text=True)
    if asked.returncode: pytest.skip(f'packages cannot be had: {asked.stderr.strip()[-200:]}')
    try: got = subprocess.run([pip, 'install', '-q', wheel, 'pytest', 'hypothesis'], cwd=home,
                              capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        pytest.skip(f'the newest torch was not here after {PATIENCE} seconds')
    lost = re.search('(connection|timed out|No space left|distribution found for torch).*',
                     got.stderr, re.I)
    if got.returncode and lost: pytest.skip(f'packages cannot be had: {lost[0][:200]}')
    assert got.returncode == 0, got.stderr[-2000:]
    for name in ('tests', 'results'): shutil.copytree(root/name, home/name)
    env = {k: v for k, v in os.environ.items() if k not in ('PYTHONPATH', 'SNN_REPRO_RELEASE')}
    said = run('new/bin/python', '-m', 'pytest', '-q', '-p', 'no:cacheprovider',
               *(f'tests/test_{name}.py' for name in CORE), cwd=home, env=env)
    assert ' passed' in said and ' failed' not in said
    assert not (home/'snn_repro').exists()   # so the wheel's was tested
