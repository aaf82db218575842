"""What a net or a loss of one's own draws from the generators of torch, NumPy and Python is the
same whatever ran before, in a run that was stopped, and in a team."""
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import power_cut
from test_mistakes import MINI, made
from test_try import forgotten   # noqa: F401

from snn_repro.core import own
from snn_repro.core.distributed import spawn, team
from snn_repro.core.rng import seeded
from snn_repro.experiments.scaling import MINI_RECIPE
from snn_repro.models import SmallVGG
from snn_repro.training import fit as fitting
from snn_repro.training import loop
from snn_repro.training.environment import Runtime, load_split
from snn_repro.training.fit import fit

FILES = ('weights.safetensors', 'outputs.safetensors', 'history.csv', 'metrics.json')
SHORT = replace(MINI_RECIPE, epochs=3, warmup=0, batch=10, test_every=1)
DROPOUT = ['    def middle(self): return nn.Dropout(.5)']
# it draws when it is tested, too
NOISE = ['    def middle(self):', '        class M(nn.Module):',
         '            def forward(self, x): return (torch.rand_like(x) < x*.5 + .1).float() + x - '
         'x.detach()', '        return M()']
# weights, and a factor in each step, as other libraries draw them
LIBRARIES = """    def middle(self):
        import random
        import numpy as np
        class M(nn.Module):
            def __init__(self):
                super().__init__()
                self.w = nn.Parameter(torch.tensor([np.random.rand() + random.random()]))
            def forward(self, x): return x*self.w*(np.random.rand() + random.random())
        return M()""".splitlines()
LOSS = '''from dataclasses import dataclass
import torch
from snn_repro.losses import CE

@dataclass(frozen=True, kw_only=True)
class Noisy(CE):
    def __call__(self, out, target, progress=None, teacher=None):
        out = out._replace(logits=out.logits + torch.randn_like(out.logits))
        return super().__call__(out, target, progress, teacher)
'''


def noisy(kind: str):
    "An experiment that draws from the global generators in its net or its loss."
    e = replace(MINI, recipe=SHORT)
    if kind == 'loss':
        Path('noise.py').write_text(LOSS)
        return replace(e, arch=SmallVGG(channels=(4, 8)),
                       objective=(own.import_file('noise.py').Noisy(),))
    middle = {'dropout': DROPOUT, 'noise': NOISE, 'libraries': LIBRARIES}[kind]
    return replace(e, arch=made('Net', *middle))


def bytes_of(out, e): return {n: (Path(out)/e.id/n).read_bytes() for n in FILES}


def states():
    "Where the three libraries' global generators stand, as text that can be compared."
    kind, words, *rest = np.random.get_state()
    return repr((torch.get_rng_state().tolist(), kind, words.tolist(), rest, random.getstate()))


def stir():
    "What other code does to the global generators."
    torch.rand(7), np.random.rand(7), random.random()


@pytest.mark.parametrize('kind', ('dropout', 'noise', 'loss', 'libraries'))
def test_what_ran_before_and_a_stop_change_no_byte(kind, tmp_path, monkeypatch):
    e = noisy(kind)
    fit(e, tmp_path/'first')
    stir()
    fit(replace(e, seed=1), tmp_path/'first')
    before = states()
    fit(e, tmp_path/'later')
    assert states() == before   # nor does a run change what comes after
    with power_cut(after=3): fit(e, tmp_path/'cut', Runtime(checkpoint=0))
    stir()
    fit(e, tmp_path/'cut', Runtime(checkpoint=0))
    assert bytes_of(tmp_path/'first', e) == bytes_of(tmp_path/'later', e) \
        == bytes_of(tmp_path/'cut', e)
    monkeypatch.setattr(loop, 'seeded', lambda *words, **more: seeded(*words, 1, **more))
    fit(e, tmp_path/'other')   # other draws, another net: they matter
    assert (bytes_of(tmp_path/'other', e)['weights.safetensors']
            != bytes_of(tmp_path/'first', e)['weights.safetensors'])


def test_each_step_epoch_and_seed_draws_anew(monkeypatch):
    e, seen = noisy('loss'), []
    split, _ = load_split(e.data, None, e.seed, e.T)
    monkeypatch.setattr(loop, 'backward', lambda *a: ({'ce': torch.rand(1)[0]}, torch.tensor(1.)))
    monkeypatch.setattr(loop, 'share_gradients', lambda *a: None)
    net = loop.build(e, split)
    for seed in (0, 1):
        for epoch in (0, 1):
            student = replace(e, seed=seed)
            opt = loop.optimizer(net, e.recipe)
            seen += [p['ce'].item() for p, *_ in loop.train_steps(student, net, split.train, opt,
                                                                   epoch)]
    assert len(seen) == len(set(seen)) == 2*2*2


@pytest.mark.parametrize('changes', ({}, {'micro_batch': 5}, {'optimizer': 'sgd', 'lr': .05}))
def test_runs_that_draw_nothing_keep_their_bytes(tmp_path, monkeypatch, changes):
    from contextlib import nullcontext
    e = replace(MINI, recipe=replace(SHORT, **changes))
    fit(e, tmp_path/'seeded')
    for module in (loop, fitting): monkeypatch.setattr(module, 'seeded',
                                                       lambda *a, **k: nullcontext())
    fit(e, tmp_path/'not')
    assert bytes_of(tmp_path/'seeded', e) == bytes_of(tmp_path/'not', e)


def drawn(e, out):
    "In a team: the run's bytes, and what this process draws in a step."
    dist = team()
    fit(e, out)
    with seeded(0, 0, 0, dist.rank): return torch.rand(3)


@pytest.mark.slow
def test_a_team_draws_the_same_again_and_each_member_its_own(tmp_path):
    e = noisy('dropout')
    one, two = spawn(2, drawn, e, tmp_path/'once')
    assert not torch.equal(one, two)
    spawn(2, drawn, e, tmp_path/'again')
    assert bytes_of(tmp_path/'once', e) == bytes_of(tmp_path/'again', e)
