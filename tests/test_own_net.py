"A net of one's own: torchvision's ResNet over time, in two workers, and asked afterwards."
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import NAME
from PIL import Image
from test_try import forgotten, fresh   # noqa: F401
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet

from snn_repro.analysis.exhibits import asked
from snn_repro.core import own
from snn_repro.core.spec import UserError, edits
from snn_repro.experiments.tiers import find_tier
from snn_repro.losses import TET
from snn_repro.models import SmallVGG
from snn_repro.nn import LIF, Folded, LIFNode, ReLU, SpikingNet, over_time
from snn_repro.records.runs import Runs
from snn_repro.training.environment import Runtime
from snn_repro.training.launch import launch
from snn_repro.training.trained import load_run

SHORT = ['recipe.epochs=1', 'recipe.warmup=0', 'recipe.batch=10', 'data.train_per_class=2',
         'data.test=20', 'T=2']


def written() -> Path:
    Path('my_net.py').write_text((files('snn_repro')/'assets'/'my_net.txt').read_text())
    return Path('my_net.py').resolve()


def test_a_setting_is_put_by_its_name():
    e = asked(NAME, find_tier('mini'))[1]
    assert edits(e, ['arch=SmallVGG']).arch == SmallVGG()
    assert edits(e, ['objective=TET', 'objective.0.type=TET']).objective == (TET(),)
    assert edits(e, ['init=ann']).init == 'ann'   # a field of text is text
    with pytest.raises(UserError, match='unknown type .Nobody.*--import'):
        edits(e, ['arch=Nobody'])


def test_with_relu_it_is_torchvisions_net():
    arch = own.import_file(written()).MyResNet(depths=(1, 1, 1, 1))
    torch.manual_seed(0)
    ours = arch.ann().build((3, 12, 12), 7, 1).double()
    theirs = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=7)
    theirs.conv1, theirs.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    theirs.double()
    with torch.no_grad():
        for p, q in zip(theirs.parameters(), ours.parameters(), strict=True): p.copy_(q)
    x = torch.rand(4, 3, 12, 12).double()
    assert torch.allclose(ours(x).logits[0], theirs(x), atol=1e-9)
    assert torch.allclose(ours.eval()(x).logits[0], theirs.eval()(x), atol=1e-9)
    spiking = arch.build((3, 12, 12), 7, 4)
    assert sum(isinstance(m, LIFNode) for m in spiking.modules()) == 5
    assert spiking(x.float()).logits.shape == (4, 4, 7)


class Sum(nn.Module):
    "A ReLU that is called twice."
    def __init__(self):
        super().__init__()
        self.conv, self.relu, self.fc = nn.Conv2d(2, 2, 3, padding=1), nn.ReLU(), nn.Linear(3, 3)

    def forward(self, x): return self.fc(self.relu(self.conv(self.relu(x)) + x))


def test_over_time_folds_all_but_neurons_and_linear_layers():
    x, module = torch.randn(5, 3, 2, 3, 3), Sum()
    plain = module(x.flatten(0, 1)).unflatten(0, (5, 3))
    same = over_time(module, ReLU())
    assert torch.allclose(same(x), plain, atol=1e-6)
    assert isinstance(same.conv, Folded) and isinstance(same.fc, nn.Linear)
    assert over_time(nn.Sequential(same.conv, nn.ReLU()), LIF())[0] is same.conv   # not twice
    net, x = over_time(Sum(), LIF()).double(), x.double()
    alone = torch.cat([net(x[:, i:i+1]) for i in range(3)], 1)   # no image hears of another
    assert torch.allclose(net(x), alone, atol=1e-9)
    assert torch.allclose(net(x)[:2], net(x[:2]), atol=1e-9)     # nor a step of a later one
    assert not torch.allclose(net(x[2:]), net(x)[2:], atol=1e-3)   # but of those before


CONV, END = Folded(nn.Conv2d(1, 8, 3)), nn.Flatten(2)

@pytest.mark.parametrize('parts, words', [
    ((Folded(nn.AvgPool2d(2)), END, nn.Linear(8, 3)), 'the stem has no convolution'),
    ((CONV, END, Folded(nn.Linear(8, 3))), 'the classifier is no nn.Linear'),
    ((CONV, nn.Flatten(0, 1), nn.Linear(3, 3)), r'let it end in features \[T,B,D\]'),
    ((CONV, nn.Flatten(3), nn.Linear(9, 3)), r'let it end in features \[T,B,D\]'),
    ((CONV, END, nn.Linear(9, 3)), '72 features, the classifier reads 9')])
def test_a_net_that_cannot_be_one_says_so(parts, words):
    with pytest.raises(UserError, match=words): SpikingNet(*parts, 2)(torch.rand(4, 1, 5, 5))


@pytest.mark.slow
def test_two_workers_train_it_and_it_answers(monkeypatch):
    file = written()
    own.import_file(file)
    e = edits(asked(NAME, find_tier('mini'))[1],
              ['arch=MyResNet', 'arch.depths=[1,1,1,1]', *SHORT])
    runs = [replace(e, seed=s) for s in (0, 1)]
    assert not launch(runs, Path('runs'), Runtime(imports=(file,)), workers=2)
    assert all(Runs('runs').get(e) for e in runs)
    trained = load_run(Path('runs')/e.id)
    picture = np.random.default_rng(0).integers(256, size=(12, 12), dtype=np.uint8)
    Image.fromarray(picture).save('one.png')
    x = torch.from_numpy(picture)[None, None].float()/255
    said = trained.classes[trained.predict(x).label]
    code, out, _ = fresh('predict', Path('runs')/e.id, 'one.png', '--import', file)
    assert code == 0 and out.splitlines()[-1].split()[1] == said
    code, _, err = fresh('predict', Path('runs')/e.id, 'one.png')
    assert code == 1 and "unknown type 'MyResNet'" in err and '--import' in err
