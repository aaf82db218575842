"What several test files share: the command line in this process, and one tiny finished run."
import os, signal, subprocess, sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from snn_repro.cli.main import main
from snn_repro.training import checkpoint

TINY = ['--set', 'recipe.epochs=1', '--set', 'data.train_per_class=5', '--set', 'data.test=50']
NAME = 'tks-table3-cifar10-resnet19-tks'
RELEASE = bool(os.environ.get('SNN_REPRO_RELEASE'))


def fuzz(release: int):
    """So many examples in a release, and a fraction of them in the ordinary run, always the same
    ones."""
    return settings(max_examples=release if RELEASE else release // 40, derandomize=True,
                    deadline=None, database=None, print_blob=True,
                    suppress_health_check=list(HealthCheck))


def in_release(test):
    "A test that takes minutes: skipped but in `make release-test`."
    reason = 'takes minutes: `make release-test`'
    return pytest.mark.release(pytest.mark.skipif(not RELEASE, reason=reason)(test))


def pytest_configure(config):
    # a shell starts its background jobs deaf to ctrl-C, and what tests start would inherit that
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line('markers', 'slurm: needs a real SLURM, which tests/slurm.sh brings up')
    config.addinivalue_line('markers', 'slow: takes seconds; `make release-test` runs it')
    config.addinivalue_line('markers', 'release: takes minutes; skipped, or in short, without '
                            'SNN_REPRO_RELEASE=1')


class PowerCut(Exception): pass


@contextmanager
def power_cut(after: int):
    "The power fails right after so many checkpoints."
    save, left = checkpoint.save_checkpoint, iter(range(after - 1))
    def cut(*a):
        save(*a)
        if next(left, None) is None: raise PowerCut
    checkpoint.save_checkpoint = cut
    try:
        with pytest.raises(PowerCut): yield
    finally: checkpoint.save_checkpoint = save


@pytest.fixture
def cli(capsys):
    "`cli(*args)` -> (exit code, output, error lines)"
    def call(*args):
        capsys.readouterr()
        code = main([str(a) for a in args])
        done = capsys.readouterr()
        return code, done.out, done.err.splitlines()
    return call


@pytest.fixture
def teamed(monkeypatch):
    "`teamed(rank)`: as if a launcher had started this process as that member of two."
    def start(rank: int):
        for k, v in dict(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=2, MASTER_ADDR='127.0.0.1',
                         MASTER_PORT=29500).items():
            monkeypatch.setenv(k, str(v))
    return start


@pytest.fixture
def refused(cli):
    "`refused(*args)`: the one line with which a command is refused."
    def call(*args):
        code, _, err = cli(*args)
        assert code not in (0, None)
        lines = [l for l in err if '/s]' not in l and l.strip()]
        assert len(lines) == 1 and lines[0].startswith('snn-repro: '), lines
        return lines[0]
    return call


@pytest.fixture
def tiny_run(cli, tmp_path):
    "A finished tiny run: (folder of runs, folder of the run)."
    code, out, _ = cli('run', NAME, *TINY, '--out', tmp_path/'runs')
    assert code == 0
    folder, = (p.parent for p in (tmp_path/'runs').glob('*/done.json'))
    return tmp_path/'runs', folder


@pytest.fixture(scope='session')
def real(tmp_path_factory):
    """`real('cifar10')`: a folder with that real data set, unpacked once; the test is skipped where
    there is none."""
    unpacked = {}
    def folder(what):
        source = os.environ.get('SNN_REPRO_DATA')
        if not source: pytest.skip('SNN_REPRO_DATA names no folder of real data')
        if what not in unpacked:
            unpacked[what] = tmp_path_factory.mktemp(what)
            subprocess.run([sys.executable, Path(source)/'unpack.py', what, unpacked[what]],
                           check=True)
        return unpacked[what]/'nmnist_small' if what == 'nmnist' else unpacked[what]
    return folder
