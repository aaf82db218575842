"A loss, a net and data of one's own: from a file, on the command line, in workers and in a team."
import json, os, subprocess, sys
from pathlib import Path

import pytest
from conftest import NAME

from snn_repro.core import own
from snn_repro.core.spec import UserError
from snn_repro.losses import CE, Objective

pytestmark = pytest.mark.slow

SHORT = ['--set', 'recipe.epochs=1', '--set', 'data.train_per_class=5', '--set', 'data.test=50']
LOSS = '''
from dataclasses import dataclass
import torch.nn.functional as F
from snn_repro.losses import Objective

@dataclass(frozen=True, kw_only=True)
class {name}(Objective):
    weight: float = {weight}
    parts = ('ce',)
    def __call__(self, out, target, progress=None, teacher=None):
        {body}
'''
BODY = "return {'ce': self.weight*F.cross_entropy(out.logits.mean(0), target)}"


@pytest.fixture(autouse=True)
def forgotten(tmp_path, monkeypatch):
    "Each test has a folder of its own, and no module that another one loaded."
    monkeypatch.chdir(tmp_path)
    yield
    for name in [n for n in sys.modules if n.startswith(own.PREFIX)]: del sys.modules[name]


def loss(name='Mine', weight=1., body=BODY, file='mine.py') -> Path:
    Path(file).write_text(LOSS.format(name=name, weight=weight, body=body))
    return Path(file)


def fresh(*words):
    "The command in a process of its own."
    done = subprocess.run([sys.executable, '-m', 'snn_repro', *map(str, words)],
                          capture_output=True, text=True,
                          env=os.environ | {'PYTHONPATH': str(Path(own.__file__).parents[2])})
    return done.returncode, done.stdout, done.stderr


def test_what_a_file_holds():
    file = loss('Found')
    assert own.pick(str(file), Objective) is own.pick(f'{file}:Found', Objective)
    assert own.import_file(file) is own.import_file(file.resolve())
    term = own.pick(str(file), Objective)()
    assert own.own_sources(term).keys() == {'Found'} and not own.own_sources(CE())
    assert 'class Found' in own.own_sources(term)['Found']['self']


@pytest.mark.parametrize('text, words', [
    (None, 'there is no such Python file'), ('x = (', 'line 1: SyntaxError'),
    ('\n1/0', 'line 2: ZeroDivisionError'), ('import nowhere_to_be_found', 'ModuleNotFoundError'),
    ('x = 1', '0 classes there derive from Objective'),
    ('import sys\nsys.exit(0)', 'line 2: it ends Python, SystemExit: 0 .*below `if __name__'),
    ('import argparse\nargparse.ArgumentParser().parse_args(["-x"])', 'line 2: it ends Python'),
    ('x = (', r"line 1: SyntaxError: '\(' was never closed \(mend this file"),   # told once
    (LOSS.format(name='A1', weight=1., body=BODY) + LOSS.format(name='B1', weight=1., body=BODY),
     '2 classes there derive from Objective')])
def test_a_file_that_cannot_be_used_says_so(text, words):
    if text: Path('odd.py').write_text(text)
    with pytest.raises(UserError, match=words): own.pick('odd.py', Objective)


def test_a_file_that_changed_after_it_was_loaded_is_refused():
    own.import_file(loss('Changing'))
    with pytest.raises(UserError, match='changed after it was loaded'):
        own.import_file(loss('Changing', weight=2.))


@pytest.mark.parametrize('body, words', [
    ('return F.cross_entropy(out.logits.mean(0), target)', 'return {part: scalar tensor}'),
    ("return {'ce': out.logits.mean((0, 2))}", 'scalar tensor for each part'),
    ("return {'other': out.logits.mean()}", 'which `parts` does not name'),
    ("return {'ce': out.logits.detach().mean()}", 'its gradient is zero'),
    ("return {'ce': (0*out.logits).sum().log()}", 'the loss is -inf in epoch 0'),
    ("return {'ce': F.cross_entropy(out.logits, target)}", 'mine.py, line '),
    ("return {'ce': F.cross_entropy(out.logits, target)}", 'steps by images by classes'),
    ("return {'ce': out.logits.exp().mul_(out.logits.sigmoid().neg_()).sum()}",
     'change no tensor in place'),
    ("return {'ce': self.need(teacher).logits.mean()}",
     'none was given (write needs_teacher = True in its class)'),
    ("return {'ce': teacher.logits.mean()}",
     'mine.py, line 11): AttributeError: \'NoneType\' object has no attribute \'logits\' '
     '(teacher is None unless the class says needs_teacher = True)'),
    ('import sys; sys.exit(3)', 'SystemExit: 3 ('),
    ("return {'ce': F.cross_entropy(out.logits.mean(0), target) + 0j}", "'ce' is complex64"),
    ("return {'ce': F.cross_entropy(LAST(out.logits[-1]), target)}\n"
     "import torch\nLAST = torch.nn.Linear(10, 10)", 'train its own weights [10, 10], [10]'),
    ("return {'ce': out.nothing}", 'AttributeError')])
def test_a_loss_that_cannot_be_trained_is_told_before_the_first_step(body, words, refused):
    file = loss('Bad', body=body)
    said = refused('try', file, '--seeds', 2)
    assert words in said and said == refused('try', file, '--seeds', 2, '--check')
    assert not Path('runs').exists()


def test_a_run_refuses_weights_of_a_loss_as_a_trial_does(refused):
    file = loss('Heavy', body="return {'ce': F.cross_entropy(LAST(out.logits[-1]), target)}\n"
                              "import torch\nLAST = torch.nn.Linear(10, 10)")
    said = refused('run', NAME, '--import', file, '--set', 'objective=Heavy', '--steps', 1)
    assert 'would train its own weights [10, 10], [10]' in said and 'mine.py, line ' in said


def test_a_wrong_signature_and_a_class_that_is_no_loss(refused):
    file = loss('Short')
    file.write_text(file.read_text().replace(', progress=None, teacher=None', ''))
    said = refused('try', file, '--check')
    assert 'takes 3 positional arguments' in said and 'objectives.py' not in said
    assert 'define __call__(self, out, target, progress=None, teacher=None)' in said
    Path('other.py').write_text('class Other: pass\n')
    said = refused('try', 'other.py:Other')
    assert 'Other is no Objective (derive a frozen dataclass from Objective' in said


def test_the_classifier_of_a_teacher_is_no_weight_of_the_loss(cli):
    file = loss('Taught', body="return {'ce': F.cross_entropy(teacher.classifier("
                               "out.features.mean(0)), target)}\n    needs_teacher = True")
    code, out, err = cli('try', file, '--check', '--seeds', 2, '--against', 'Baseline')
    assert code == 0 and not err


def test_words_that_do_not_fit_are_told_before_the_first_step(refused):
    file = loss('Good')
    Path('occupied').touch()
    for words, said in ((['--against', 'Nobody'], "unknown method 'Nobody'"),
                        (['--set', 'nothing=1'], 'unknown key'),
                        (['--set', 'recipe.epochs=1'],
                         '--set changes the loss alone, --tier sets the length'),
                        (['--tier', 'none'], 'unknown tier'),
                        (['--tier', 'paper'], 'CIFAR10'),
                        (['--out', 'occupied/runs'], 'a file stands where a folder is needed'),
                        (['--device', 'nowhere'], 'cannot be used here'),
                        (['--threads', 0], '--threads is 0'),
                        (['--seeds', 0], '--seeds is 0')):
        line = refused('try', file, *words)
        assert said in line and line == refused('try', file, *words, '--check')
    assert 'it has no Other' in refused('try', f'{file}:Other')
    assert 'no loss is named' in refused('try')
    assert 'exists already' in refused('try', '--new', file)
    assert not Path('runs').exists()


RAMP = '''epoch, epochs = progress
        held = out.features.square().mean()
        parts = {'ce': F.cross_entropy(out.logits.mean(0), target)}
        return parts | {'late': epoch*self.weight*held}'''


def test_a_check_tells_parts_and_gradients_and_trains_nothing(cli):
    file = loss('Late', body=RAMP)
    file.write_text(file.read_text().replace("('ce',)", "('ce', 'late')"))
    code, out, err = cli('try', file, '--check', '--seeds', 3, '--against', 'Baseline', 'KD')
    assert code == 0 and not err and {p.name for p in Path().iterdir()} <= {file.name,
                                                                           '__pycache__'}
    rows = [line.split() for line in out.splitlines()]
    head = rows.index(['part', 'epoch', 'value', 'gradient', 'on', 'features'])
    ce, late = rows[head + 2:head + 5], rows[head + 5:head + 8]
    assert [r[-4] for r in ce] == [r[-4] for r in late] == ['0', '5', '11']   # of 12, from 0
    assert len({tuple(r[-3:]) for r in ce}) == 1 and all(float(r[-2]) > 0 == float(r[-1])
                                                         for r in ce)
    sizes = [float(r[-1]) for r in late]
    assert sizes[0] == 0 < sizes[1] and abs(sizes[2]/sizes[1]/2.2 - 1) < .02
    said = ' '.join(out.split())
    assert 'A trial is 12 runs in runs/mini: Late beside Baseline, KD, and their teachers' in said
    assert '12 are left to do: about ' in said and 'Nothing was trained' in said


@pytest.mark.parametrize('head, words', [
    ('class Bare(Objective):\n    weight: float = 0.1', 'Bare: its weight cannot be set'),
    ('class Net(Arch):\n    width: int = 8', 'Net: its width cannot be set'),
    ('class Set(Data):\n    n: "int" = 60', 'Set: its n cannot be set'),
    ('class Cut(TKS):\n    peak = 0.5', 'Cut: its peak is not read, since it has no type'),
    ('@dataclass(frozen=True, kw_only=True)\nclass Dressed(TKS):\n    peak = 0.5',
     'write peak: float = ')])
def test_a_value_that_would_not_be_read_is_told(head, words, refused):
    Path('bare.py').write_text(
        'from dataclasses import dataclass\nfrom snn_repro import TKS\n'
        'from snn_repro.data import Data\nfrom snn_repro.losses import Objective\n'
        f'from snn_repro.nn import Arch\n\n{head}\n')
    said = refused('show', NAME, '--import', 'bare.py')
    assert words in said and ('cannot' not in said or 'kw_only=True) in the line above' in said)
    if 'Objective' in head: assert refused('try', 'bare.py', '--check') == said


def test_what_is_no_field_is_no_mistake():
    Path('plain.py').write_text("""
from typing import ClassVar
from snn_repro.losses import CE

class Plain(CE):
    parts: ClassVar[tuple[str, ...]] = ('ce',)
    scale = 2.
    def __call__(self, out, target, progress=None, teacher=None):
        return {'ce': self.scale*super().__call__(out, target)['ce']}
""")
    assert own.pick('plain.py', Objective).scale == 2


def test_the_template_runs_as_it_is_and_is_judged():
    assert fresh('try', '--new', 'my_loss.py')[0] == 0
    code, out, err = fresh('try', 'my_loss.py', '--seeds', 2,
                           '--against', 'Baseline', 'TKS (text)')
    assert code == 0 and 'TKS (text)' in out, err
    said = ' '.join(out.split())   # a slow machine's minutes break its lines elsewhere
    assert 'MyLoss minus each of these' in said and '--tier long' in said
    assert len(list(Path('runs/mini').glob('*myloss-s?-*/done.json'))) == 2
    code, checked, err = fresh('try', 'my_loss.py', '--seeds', 2, '--check',
                               '--against', 'Baseline', 'TKS (text)')
    assert code == 0 and 'All of them are done.' in ' '.join(checked.split()), err
    path, = Path('reports').glob('try-my_loss-mini-still-*/index.html')
    assert str(path) in out.replace('\n  ', '')
    page = path.read_text()
    assert 'class MyLoss' in page and page.count('<table') == 2 and 'Better or worse' in said
    kept = json.loads(next(Path('runs/mini').glob('*myloss*/source.json')).read_text())
    assert kept['MyLoss']['self'] == Path('my_loss.py').read_text()
    # another text is another run, and what was there of the others is used again
    before = {p.name for p in Path('runs/mini').iterdir()}
    text = Path('my_loss.py').read_text()
    Path('my_loss.py').write_text(text.replace('weight: float = 1.0', 'weight: float = 2.0'))
    assert fresh('try', 'my_loss.py', '--seeds', 2, '--against', 'Baseline')[0] == 0
    new = {p.name for p in Path('runs/mini').iterdir()} - before
    assert len(new) == 2 and all('myloss' in n for n in new)
    assert path.read_text() == page and len(list(Path('reports').iterdir())) == 2
    for words in (('status', 'runs/mini'), ('verify', 'runs/mini')):
        code, out, err = fresh(*words)
        assert code == 0, (words, out, err)


def test_a_loss_travels_to_a_team_of_processes():
    file = loss('Shared')
    code, out, err = fresh('run', NAME, '--import', file, *SHORT, '--processes', 2, '--set',
                           'objective=[{"type":"Shared"}]', '--out', 'runs/team')
    assert code == 0, err
    assert len(list(Path('runs/team').glob('*shared-s0-*/done.json'))) == 1


def test_a_record_names_no_file_and_loads_none(refused):
    file = loss('Unknown')
    code, _, err = fresh('run', NAME, '--import', file, *SHORT, '--set',
                         'objective=[{"type":"Unknown"}]', '--out', 'runs/one')
    assert code == 0, err
    config, = Path('runs/one').glob('*/config.json')
    code, _, err = fresh('run', config, '--out', 'runs/two')
    assert code == 1 and "unknown type 'Unknown'" in err
    assert fresh('run', config, '--import', file, '--out', 'runs/two')[0] == 0


NET = '''
from dataclasses import dataclass
from torch import nn
from snn_repro.nn.layers import Arch, Folded, SpikingNet
from snn_repro.nn.neurons import TKS_LIF, Neuron

@dataclass(frozen=True, kw_only=True)
class Tiny(Arch):
    neuron: Neuron = TKS_LIF
    width: int = 8
    def build(self, shape, classes, T):
        body = nn.Sequential(self.neuron.build(), Folded(nn.AdaptiveAvgPool2d(2), nn.Flatten()))
        stem = Folded(nn.Conv2d(shape[0], self.width, 3, padding=1, bias=False),
                      nn.BatchNorm2d(self.width))
        return SpikingNet(stem, body, nn.Linear(4*self.width, classes), T)
'''
DATA = '''
from dataclasses import dataclass
import torch
from snn_repro.data.source import Data, Source, Split

@dataclass(frozen=True, kw_only=True)
class Noise(Data):
    n: int = 60
    def load(self, root, seed, T):
        g = torch.Generator().manual_seed(seed)
        def part(n):
            return Source(torch.rand(n, 1, 8, 8, generator=g), torch.arange(n) % 3)
        return Split(part(self.n), part(0), part(30), ('a', 'b', 'c'))
'''


def test_a_net_and_data_of_ones_own():
    Path('tiny.py').write_text(NET)
    Path('noise.py').write_text(DATA)
    code, out, err = fresh('run', NAME, '--import', 'tiny.py', '--import', 'noise.py', '--set',
                           'recipe.epochs=1', '--set', 'arch={"type":"Tiny"}', '--set',
                           'data={"type":"Noise"}', '--out', 'runs/own')
    assert code == 0, err
    assert len(list(Path('runs/own').glob('noise-tiny-*/source.json'))) == 1
