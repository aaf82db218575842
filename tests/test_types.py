"""What an editor and mypy see of the package: a user's file is clean under `mypy --strict`, against
the package as it is installed, and mistakes in it are found."""
import configparser, os, shutil, subprocess, sys, venv
from pathlib import Path

import pytest

root = Path(__file__).parents[1]
USER = '''
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from snn_repro import LIF, TKS, Experiment, LIFNode, Recipe, aurc, fit, load_run
from snn_repro.data import CropFlip, Digits
from snn_repro.losses import CE, Objective, Teacher, total
from snn_repro.metrics import outcomes, prefix_accuracy
from snn_repro.models import SmallVGG
from snn_repro.nn import ATan, Output, SpikingNet, fuse


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.read, self.fire = nn.Linear(64, 10), LIFNode(tau=2.0, surrogate=ATan())
        self.again = LIFNode(LIF(v_threshold=1.))

    def forward(self, x: Tensor) -> Tensor:
        return self.again(self.fire(self.read(x.flatten(2))))


@dataclass(frozen=True, kw_only=True)
class Last(Objective):
    weight: float = 1.
    parts = ('last',)

    def __call__(self, out: Output | Tensor, target: Tensor,
                 progress: tuple[int, int] | None = None,
                 teacher: Teacher | None = None) -> dict[str, Tensor]:
        return {'last': self.weight*CE()(out, target)['ce']}


def step(labels: Tensor) -> Tensor:
    net: SpikingNet = SmallVGG(channels=(4, 8)).build((1, 16, 16), 10, T=4)
    fuse(net)
    out = net(torch.rand(len(labels), 1, 16, 16))
    parts = TKS(peak=.5)(out.logits, labels, progress=(0, 10))
    loss, more = total((CE(), Last()), out, labels)
    return loss + parts['tks'] + more['last']


def judge(out: Output, labels: Tensor) -> float:
    seen = outcomes(out.logits.transpose(0, 1), labels)
    return aurc(seen) + float(prefix_accuracy(seen)[-1])


def run(folder: Path) -> list[str]:
    e = Experiment(data=Digits(), arch=SmallVGG(), T=4, objective=(TKS(),), augment=CropFlip(),
                   recipe=Recipe(epochs=12))
    record = fit(e, folder)
    if record is not None: print(record.metrics['top1'], record.outcomes['step'].shape)
    trained = load_run(folder/e.id)
    answers = trained.predict(torch.zeros(3, *trained.shape), stop=.9)
    return [trained.classes[n] for n in answers.label.tolist()]
'''
IMPORTS = USER.partition('class Net')[0]
WRONG = {   # a mistake that a user makes, and what it is found by
    "LIFNode(taw=2.0)": 'Unexpected keyword argument "taw"',
    "LIFNode(tau='2')": 'incompatible type',
    "TKS(ramp='epochs')": 'incompatible type',
    "TKS()([1.], torch.zeros(1))": 'incompatible type',
    "SmallVGG().build((1, 8, 8), 10)": 'Missing positional argument "T"',
    "aurc(outcomes([[[1.]]], [0])).real.nothing": 'has no attribute "nothing"',
    "load_run('x').predict(torch.zeros(1)).labels": 'has no attribute "labels"',
    "SmallVGG().build((1, 8, 8), 10, 4)(torch.zeros(1)).logit": 'has no attribute "logit"',
    "from snn_repro.losses import TKZ": 'has no attribute "TKZ"',
    "from snn_repro import LIFnode": 'has no attribute "LIFnode"'}


@pytest.fixture(scope='module')
def installed(tmp_path_factory):
    "A Python that has the package in its site-packages, as from a wheel, and what it stands on."
    home = tmp_path_factory.mktemp('installed')
    venv.create(home, with_pip=False)
    site, = home.glob('lib/python*/site-packages')
    shutil.copytree(root/'snn_repro', site/'snn_repro',
                    ignore=shutil.ignore_patterns('__pycache__', 'assets'))
    (site/'others.pth').write_text('\n'.join(p for p in sys.path if p.endswith('site-packages')))
    return home/'bin'/'python'


@pytest.fixture(scope='module')
def said(installed, tmp_path_factory):
    "What `mypy --strict` says of the two files, line by line."
    folder = tmp_path_factory.mktemp('user')
    (folder/'user.py').write_text(USER)
    (folder/'wrong.py').write_text(IMPORTS + '\n'.join(WRONG))
    env = {k: v for k, v in os.environ.items() if k not in ('PYTHONPATH', 'MYPYPATH')}
    done = subprocess.run([sys.executable, '-m', 'mypy', '--strict', '--python-executable',
                           installed, 'user.py', 'wrong.py'],
                          cwd=folder, env=env, capture_output=True, text=True)
    assert not done.stderr, done.stderr
    return [line for line in done.stdout.splitlines() if ': error: ' in line]


@pytest.mark.slow
def test_a_users_file_is_clean(said):
    assert said and not [line for line in said if not line.startswith('wrong.py')], said


def test_a_users_mistakes_are_found(said):
    for n, (line, words) in enumerate(WRONG.items(), 1 + IMPORTS.count('\n')):
        assert any(s.startswith(f'wrong.py:{n}:') and words in s for s in said), (line, said)


def test_the_marker_is_packed():
    config = configparser.ConfigParser(delimiters=['='])
    config.read(root/'settings.ini')
    assert 'py.typed' in config['DEFAULT']['package_data'].split()
    assert (root/'snn_repro/py.typed').exists()


def test_the_public_parts_are_clean():
    done = subprocess.run([sys.executable, '-m', 'mypy'], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0 and 'no issues found' in done.stdout, done.stdout + done.stderr
