"What only a release needs to know: `make release-test`."
import os, subprocess, sys
from pathlib import Path
from zipfile import ZipFile

import pytest

root = Path(__file__).parents[1]
pytestmark = [pytest.mark.release, pytest.mark.skipif(not os.environ.get('SNN_REPRO_RELEASE'),
                                                      reason='takes minutes: `make release-test`')]


def run(*command, cwd):
    done = subprocess.run([str(c) for c in command], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def test_the_wheel_works_in_an_empty_environment(tmp_path):
    run(sys.executable, '-m', 'build', '--wheel', '--outdir', tmp_path, root, cwd=tmp_path)
    wheel, = tmp_path.glob('*.whl')
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
