"""Every row at full size: its net builds, gives its shapes and takes its first steps; started by
name, a run goes through its first steps."""
import gzip, hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from snn_repro.analysis.exhibits import EXHIBITS, find_experiment, names
from snn_repro.data.event_sets import NMNIST
from snn_repro.data.image_folders import Folder
from snn_repro.experiments.scaling import tier_of
from snn_repro.losses.tks import TKS
from snn_repro.models.vgg import ThinVGG
from snn_repro.training.environment import Runtime, try_steps
from snn_repro.training.fit import fit

ROWS = {n: e for x in EXHIBITS for n, e in names(x).items() if not tier_of(e)}
ALL = list(dict.fromkeys(e for row in ROWS.values() for e in (row, row.teacher) if e))
IMAGES = {'CIFAR10': ((3, 32, 32), 10), 'CIFAR100': ((3, 32, 32), 100),
          'ImageNet1k': ((3, 224, 224), 1000), 'CUB200': ((3, 224, 224), 200),
          'StanfordDogs': ((3, 224, 224), 120), 'StanfordCars': ((3, 224, 224), 196),
          'DVSCIFAR10': ((2, 48, 48), 10), 'NCaltech101': ((2, 48, 48), 101)}
PARAMETERS = {('VGGSNN', 10): 9_268_746, ('VGGSNN', 101): 9_688_165, ('ResNet19', 10): 12_698_250,
              ('SEWResNet19', 10): 12_630_858,
              ('EnofResNet20', 10): 11_247_946, ('EnofResNet19', 10): 12_569_226}


def nets():
    return {(type(e.data).__name__, type(e.arch).__name__, e.arch.readout,
             type(e.arch.neuron).__name__, getattr(e.arch, 'norm', ''), e.T): e for e in ALL}


@pytest.mark.parametrize('key', nets(), ids=lambda k: '-'.join(map(str, k)))
def test_net_of_every_row_builds_and_gives_its_shapes(key):
    "On torch's device without memory, so that the full size costs nothing."
    e, (shape, classes) = nets()[key], IMAGES[key[0]]
    with torch.device('meta'), torch.no_grad():
        net = e.arch.build(shape, classes, e.T)
        out = net(torch.zeros(2, *shape) if e.data.still else torch.zeros(e.T, 2, *shape))
    width = {'VGGSNN': 4608, 'ResNet19': 256, 'SEWResNet19': 256,
             'SEWResNet50': 2048}.get(type(e.arch).__name__, 512)
    assert out.logits.shape == (e.T, 2, classes) and out.features.shape == (e.T, 2, width)


def test_parameters_are_those_of_the_papers_code():
    seen = {}
    for e in ALL:
        shape, classes = IMAGES[type(e.data).__name__]
        if (getattr(e.arch, 'norm', '') == 'tebn' or
            (shape[0] == 2) != (type(e.arch).__name__ == 'VGGSNN')):
            continue
        with torch.device('meta'): net = e.arch.build(shape, classes, e.T)
        seen[type(e.arch).__name__, classes] = sum(p.numel() for p in net.parameters())
    assert {k: seen[k] for k in PARAMETERS} == PARAMETERS


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    "Folders with an image or two for each of 1,000, 200, 120 and 196 classes."
    root, rng = tmp_path_factory.mktemp('made'), np.random.default_rng(0)
    for classes in (1000, 200, 120, 196):
        for part, n in (('train', classes), ('test', 2)):
            for k in range(n):
                path = root/str(classes)/part/f'{k:04}'/'0.png'
                path.parent.mkdir(parents=True)
                Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)).save(path)
    return root


LARGE = ['tks-table1-imagenet-1k-tks-sew-resnet-34-4', 'tks-table1-imagenet-1k-tks-sew-resnet-50-4',
         'tks-table1-imagenet-1k-stbp-tdbn-5-spiking-resnet-34-6',
         'enof-table-imagenet-enof-snn-training-resnet-34-4',
         'tks-table4-cub-200-2011-sew-resnet-18-tks', 'tks-table4-cub-200-2011-sew-resnet-34-tet',
         'tks-table4-stanforddogs-sew-resnet-18-baseline',
         'tks-table4-stanfordcars-sew-resnet-18-tks']


@pytest.mark.slow
@pytest.mark.parametrize('name', LARGE)
def test_first_steps_at_full_size(name, made):
    """The row's net, image size, augmentation, objective and optimiser; two images a batch, made
    ones. TKS's term would weigh 0 in the first epoch."""
    row = find_experiment(name)
    classes = IMAGES[type(row.data).__name__][1]
    e = replace(row, data=Folder(path=str(classes), size=row.data.size),
                recipe=replace(row.recipe, batch=2, warmup=0))
    e = replace(e, objective=tuple(replace(o, ramp='constant') if isinstance(o, TKS) else o
                                   for o in e.objective))
    tried = try_steps(e, 2, Runtime(made, threads=torch.get_num_threads())).drop(columns='seconds')
    assert len(tried) == 2 and set(tried) == {p for o in e.objective for p in o.parts} - {'mse'}
    assert (tried > 0).all(axis=None) and (tried.iloc[0] != tried.iloc[1]).all()


@pytest.mark.slow
@pytest.mark.parametrize('name, what, batch', [('tks-table3-cifar10-resnet19-tks', 'cifar10', 4),
                                               ('enof-ablation-2-l_af-repact', 'cifar10', 4)])
def test_run_starts_at_full_size_given_the_data(cli, real, name, what, batch):
    code, out, err = cli('run', name, '--tier', 'paper', '--root', real(what), '--set',
                         f'recipe.batch={batch}', '--steps', '2')
    assert code == 0, err
    assert [l.split()[0] for l in out.splitlines()[-2:]] == ['1', '2']


def test_a_run_on_recordings_lists_its_files(real, tmp_path):
    row = find_experiment('tks-table2-ncaltech101-tks-vgg-snn-10')
    e = replace(row, data=NMNIST(train=30, test=10, size=16), arch=ThinVGG(), T=2,
                recipe=replace(row.recipe, epochs=1, warmup=0, batch=10))
    record = fit(e, tmp_path, Runtime(real('nmnist')))
    listed = gzip.decompress((tmp_path/e.id/'manifest.tsv.gz').read_bytes())
    lines = [l.split('\t') for l in listed.decode().splitlines()]
    assert [sum(l[0] == part for l in lines) for part in ('train', 'valid', 'test')] == [30, 0, 10]
    assert all(name.split('/')[1] == digit and (real('nmnist')/name).is_file()
               for _, digit, name in lines)
    assert record.env['manifest'] == hashlib.sha256(listed).hexdigest()
