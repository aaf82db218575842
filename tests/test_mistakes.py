"Mistakes in a net, a loss or data of one's own: told before the first step, with the file's line."
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import NAME, power_cut
from test_try import forgotten   # noqa: F401
from torch import nn

from snn_repro.analysis.exhibits import asked
from snn_repro.analysis.stats import equivalence, judge, judge_at
from snn_repro.core import own
from snn_repro.core.spec import UserError, edits
from snn_repro.experiments.tiers import find_tier
from snn_repro.losses import CE, KD, TET, TKS
from snn_repro.nn import LIF, Folded, LIFNode, over_time
from snn_repro.training.environment import Runtime, preflight, try_steps
from snn_repro.training.fit import fit
from snn_repro.training.trained import load_run

MINI = edits(asked(NAME, find_tier('mini'))[1],
             ['recipe.epochs=2', 'recipe.warmup=0', 'recipe.batch=10', 'data.train_per_class=2',
              'data.test=20', 'T=2'])
NETS = '''from dataclasses import dataclass
import torch
from torch import nn
from snn_repro.nn import Arch, Folded, SpikingNet

@dataclass(frozen=True, kw_only=True)
class Net(Arch):
    def middle(self): return nn.Identity()
    def last(self, classes): return nn.Linear(576, classes)
    def build(self, shape, classes, T):
        stem = Folded(nn.Conv2d(shape[0], 4, 3, padding=1))
        body = nn.Sequential(self.read(), self.middle(), Folded(nn.Flatten()))
        return SpikingNet(stem, body, self.last(classes), T)

'''
BUILD = '    def build(self, shape, classes, T): '
MIDDLE = '    def middle(self): return '


def file_of(*lines: str, stem='nets') -> Path:
    Path(f'{stem}.py').write_text(NETS + '\n'.join(lines) + '\n')
    return Path(f'{stem}.py').resolve()


def made(base: str, *lines: str):
    "An instance of `class Own(base)` with these lines in its body, which begin in line 17."
    file = file_of('@dataclass(frozen=True, kw_only=True)', f'class Own({base}):', *lines)
    return own.import_file(file).Own()


def module(*lines):
    return '    def middle(self):', *(f'        {line}' for line in lines), '        return M()'


@pytest.mark.parametrize('lines, line, words', [
    ([BUILD + 'pass'], 17, 'build returns NoneType .let it return SpikingNet'),
    ([BUILD + 'return nn.Linear(144, classes)'], 17, 'build returns Linear'),
    ([BUILD, '        raise ValueError("not this")'], 18, 'ValueError: not this .mend its build'),
    (['    def build(self): return None'], 17, r'TypeError: .*\(mend its build'),
    ([BUILD + 'return super().build(shape, 5, T)'], 17, '5 outputs for 10 classes'),
    ([BUILD + 'return super().build(shape, classes, T).requires_grad_(False)'], 17,
     'all its weights are frozen'),
    (['    def last(self, classes): return nn.LazyLinear(classes)'], 17,
     r'classifier.weight, classifier.bias: no size before the first image'),
    (['    def last(self, classes): return nn.Linear(100, classes)'], None,
     'Own .*, input: images of 12x12 give 576 features, the classifier reads 100'),
    ([*module('class M(nn.Module):', '    def forward(self, x): return x.view(3, 7)')], 19,
     r"RuntimeError: shape '\[3, 7\]' .*\(it gets images \[2, 1, 12, 12\], and T = 2\)"),
    ([*module('class M(nn.Module):', '    def forward(self, x):',
              '        with torch.no_grad(): return x.exp()')], None, None),
    ([*module('class M(nn.Module):', '    def forward(self, x):', '        y = x.exp()',
              '        x = y.mul(2)', '        y.add_(1)', '        return x*y + y.exp_()')], None,
     'RuntimeError: one of the variables needed for gradient .*mend how a gradient gets back'),
    ([*module('class M(nn.Module):', '    def __init__(self):', '        super().__init__()',
              '        self.register_buffer("n", torch.zeros(2).bfloat16())',
              '    def forward(self, x): return x')], 17, 'body.1.n cannot be saved .TypeError'),
    ([*module('class M(nn.Module):', '    def get_extra_state(self): return object()',
              '    def set_extra_state(self, state): pass',
              '    def forward(self, x): return x')], 17, 'body.1._extra_state cannot be saved'),
    ([*module('class M(nn.Module):', '    def forward(self, x):',
              '        self.register_buffer("seen", x.detach())', '        return x')], 17,
     'body.1.seen of the new net .* not alike, so it could not be loaded'),
])
def test_a_mistake_in_a_net_is_told_with_its_line(lines, line, words):
    e = replace(MINI, arch=made('Net', *lines))
    if words is None: return preflight(e) and None   # the classifier alone is trained: its choice
    with pytest.raises(UserError, match=words) as told: preflight(e)
    said = str(told.value)
    assert said.startswith(f'Own ({Path("nets.py").resolve()}, line ') and '\n' not in said
    assert line is None or f', line {line})' in said, said


def test_a_mistake_of_the_librarys_own_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr(type(MINI.arch), 'build', lambda *a: 1/0)
    with pytest.raises(ZeroDivisionError): preflight(MINI)


def test_nothing_is_trained_where_something_is_wrong(refused, tmp_path):
    file = file_of('class Own(Net):', BUILD + '1/0')
    said = refused('run', NAME, '--import', file, '--set', 'arch=Own', '--out', tmp_path/'runs')
    assert f'Own ({file}, line 16): ZeroDivisionError: division by zero' in said
    assert not (tmp_path/'runs').exists() or not list((tmp_path/'runs').glob('*/config.json'))


def test_a_net_that_answers_all_alike_is_told_and_kept(tmp_path):
    dead = module('class M(nn.Module):', '    def forward(self, x): return x*0')
    e = replace(MINI, arch=made('Net', *dead), recipe=replace(MINI.recipe, epochs=5))
    with pytest.warns(UserWarning, match="the net answers '[0-9]' to every test image; look at"):
        fit(e, tmp_path/'o')
    assert (tmp_path/'o'/e.id/'done.json').exists()


def test_a_net_without_neurons_is_told_and_trained(tmp_path):
    e = replace(MINI, arch=made('Net', '    def read(self): return nn.ReLU()'))
    with pytest.warns(UserWarning, match=r'Own .*line 17\): it has no LIF'): fit(e, tmp_path/'o')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        preflight(MINI)
        preflight(replace(MINI, arch=MINI.arch.ann(), T=1, objective=(CE(),)))


TIED = [*module('conv = nn.Conv2d(4, 4, 3, padding=1)', 'def M():',
                '    return nn.Sequential(Folded(conv), self.neuron.build(), Folded(conv))')]


def test_tied_weights_are_saved_resumed_and_asked(tmp_path):
    e = replace(MINI, arch=made('Net', *TIED))
    fit(e, tmp_path/'peace')
    with power_cut(after=3): fit(e, tmp_path/'cut', Runtime(checkpoint=0))
    fit(e, tmp_path/'cut', Runtime(checkpoint=0))
    for n in ('weights.safetensors', 'outputs.safetensors', 'history.csv'):
        assert (tmp_path/'peace'/e.id/n).read_bytes() == (tmp_path/'cut'/e.id/n).read_bytes()
    net = load_run(tmp_path/'cut'/e.id).net
    one, two = (net.body[1][i][0].weight for i in (0, 2))
    assert one is two and sum(p is one for p in net.parameters()) == 1


DATA = '''from dataclasses import dataclass
import torch
from snn_repro.data import Data, Source, Split

@dataclass(frozen=True, kw_only=True)
class Own(Data):
    def load(self, root, seed, T):
        x, y = torch.rand(20, 1, 12, 12), torch.arange(20) % 10
        {body}
'''

@pytest.mark.parametrize('body, words', [
    ('raise FileNotFoundError("no file here")', r'line 9\): FileNotFoundError: no file here'),
    ('return x, y', r'line 7\): load returns tuple, no Split'),
    ('return Split((x, y), (x, y), (x, y), tuple("abcdefghij"))', 'train: found tuple, no Source'),
    ('s = Source(x.numpy(), y); return Split(s, s, s, tuple("abcdefghij"))',
     'train: samples or labels are ndarray'),
    ('s = Source(x, y); s.batch = None; return Split(s, s, s, tuple("abcdefghij"))',
     "TypeError: 'NoneType' object is not callable .mend what gives the first two images")])
def test_a_mistake_in_data_is_told_with_its_line(body, words):
    Path('sets.py').write_text(DATA.format(body=body))
    e = replace(MINI, data=own.import_file('sets.py').Own())
    with pytest.raises(UserError, match=words) as told: preflight(e)
    assert str(told.value).startswith(f'Own ({Path("sets.py").resolve()}, line ')


def test_other_activations_are_named_or_kept_on_purpose():
    gate = nn.Sequential(nn.Conv2d(2, 2, 1), nn.Sigmoid())
    block = lambda *more: nn.Sequential(nn.Conv2d(2, 2, 3), *more, nn.ReLU())
    with pytest.raises(UserError, match=r'replace 1 \(ReLU6\), 2.1 \(Sigmoid\) .*nn.ReLU there'):
        over_time(block(nn.ReLU6(), gate), LIF())
    net = over_time(block(Folded(gate)), LIF())
    assert isinstance(net[2], LIFNode) and net(torch.rand(3, 2, 2, 5, 5)).shape == (3, 2, 2, 3, 3)


def test_a_part_that_weighs_nothing_is_told(cli, tmp_path):
    def told(**changes):
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter('always')
            preflight(replace(MINI, **changes))
        return [str(w.message) for w in seen]
    once = replace(MINI.recipe, epochs=1)
    said, = told(recipe=once)
    assert 'the part tks of the loss is 0 in all epochs that are trained (1)' in said
    assert told(objective=(TKS(peak=0.),)) and not told()
    for free in (TKS(ramp='constant'), TKS(ramp='constant', none_correct='skip'),
                 TET(mse_weight=.1), CE()):
        assert not told(recipe=once, objective=(free,)), free
    assert not told(recipe=once, objective=(CE(), KD())) and told(objective=(CE(), KD(weight=0.)))
    with pytest.warns(UserWarning, match='0 in the first epoch'): try_steps(MINI, 1)
    code, _, err = cli('run', NAME, '--steps', 1)
    assert code == 0 and sum('the part tks of the loss is 0' in line for line in err) == 1


def test_runs_that_are_alike_have_no_power():
    alike = judge([[0., 0., 0.]], [1.])[0]
    assert np.isnan(alike.power) and (alike.low, alike.high) == (0, 0)
    assert np.isnan(equivalence([0., 0., 0.], 1.).power)
    assert 0 < judge_at([.1, .2, -.1], .5, .05).power < 1
