"""A finished run that is found, and an unfinished one that goes on.
The data are those that it saw, or it is said. A refused run leaves nothing."""
import os, re, shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import NAME, TINY, power_cut
from snn_repro.analysis.exhibits import asked
from snn_repro.cli import plan as estimate
from snn_repro.core.spec import UserError
from snn_repro.data.digits import Digits
from snn_repro.data.event_images import EventImages
from snn_repro.data.event_sets import DVSCIFAR10, NMNIST
from snn_repro.data.few_cars import FewCars
from snn_repro.data.image_folders import ImageNet1k
from snn_repro.data.images import CIFAR10, CIFAR100
from snn_repro.data.placeholder import Unseen, extent
from snn_repro.data.source import Validation
from snn_repro.experiments.experiment import Experiment
from snn_repro.experiments.tiers import find_tier
from snn_repro.training import fit as training
from snn_repro.training.environment import Runtime
from snn_repro.training.fit import fit
from snn_repro.training.launch import launch

RUN = 'tks-table3-cifar10-resnet19-baseline'


@pytest.fixture
def root(tmp_path):
    """A folder of data sets with one, under `images`.
    Three classes, four training and two test images each."""
    rng = np.random.default_rng(0)
    for part, n in (('train', 4), ('test', 2)):
        for c in ('ant', 'bee', 'cat'):
            (tmp_path/'sets/images'/part/c).mkdir(parents=True)
            for i in range(n):
                pixels = rng.integers(0, 256, (20 + i, 20, 3), np.uint8)
                Image.fromarray(pixels).save(tmp_path/'sets/images'/part/c/f'{i}.png')
    training.load.cache_clear()
    return tmp_path/'sets'


def experiment(**recipe) -> Experiment:
    d = asked(RUN, find_tier('mini'))[1].to_dict()
    d['recipe'] |= {'epochs': 2, 'batch': 4, 'test_every': 2} | recipe
    data = {'type': 'Folder', 'path': 'images', 'size': 16}
    return Experiment.from_dict(d | {'data': data, 'augment': {'type': 'NoAugment'}})


def other_image(file): Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(file)
def touched(file): os.utime(file, (1, 1))
def one_more(file): shutil.copy(file, file.with_name('new.png'))


# A hit

@pytest.mark.parametrize('change, same', [(touched, True), (other_image, False), (one_more, False)])
@pytest.mark.parametrize('part', ('train', 'test'))
def test_on_a_hit_the_data_are_compared(tmp_path, root, monkeypatch, change, same, part):
    e, how = experiment(epochs=1, test_every=1), Runtime(root)
    first = fit(e, tmp_path/'runs', how)
    hashed = []
    load = training.load
    def counted(*a):
        hashed.append(a)
        return load(*a)
    counted.cache_clear = load.cache_clear
    monkeypatch.setattr(training, 'load', counted)
    assert fit(e, tmp_path/'runs', how).env == first.env
    assert hashed == [], 'names, sizes and times are the same: nothing is hashed'
    change(root/'images'/part/'bee/1.png')
    for hit in (lambda: fit(e, tmp_path/'runs', how), lambda: launch([e], tmp_path/'runs', how)):
        if same: hit()
        else:
            words = f'{e.id}: its data have changed since this run was made.*restore them'
            with pytest.raises(UserError, match=words): hit()
    assert len(hashed) == 2
    shutil.rmtree(root)
    again = fit(e, tmp_path/'runs', how)
    assert again.env == first.env, 'data that are gone say nothing against it'


def test_a_hit_says_so(cli, tmp_path):
    ask = ('run', NAME, *TINY, '--out', tmp_path)
    first, again = cli(*ask)[1].splitlines(), cli(*ask)[1].splitlines()
    assert first[:-1] == again[:-1]
    assert again[-1] == first[-1].replace('Run: ', 'Run: already there, from ')


# A run that goes on

@pytest.mark.parametrize('part, goes_on', [('test', True), ('train', False)])
def test_a_run_goes_on_where_only_the_test_part_was_mended(tmp_path, root, capsys, part, goes_on):
    e, how = experiment(epochs=3), Runtime(root, checkpoint=0)
    with power_cut(after=4): fit(e, tmp_path/'runs', how)
    other_image(root/'images'/part/'cat/0.png')
    training.load.cache_clear()
    if not goes_on:
        words = 'the data set is another one than when this run began'
        with pytest.raises(UserError, match=words): fit(e, tmp_path/'runs', how)
        return
    went_on = fit(e, tmp_path/'runs', how)
    said = capsys.readouterr().err
    assert f'{e.id}: its test data changed since this run began; it goes on' in said
    whole = fit(e, tmp_path/'whole', how)
    same = [(tmp_path/out/e.id/'weights.safetensors').read_bytes() for out in ('runs', 'whole')]
    assert same[0] == same[1] and went_on.env['data'] == whole.env['data']


# A refused run

def test_a_refused_run_leaves_no_folder(tmp_path, refused):
    e = asked(NAME, find_tier('mini'))[1]
    large = replace(e, recipe=replace(e.recipe, batch=5000))
    with pytest.raises(UserError, match='do not fill a batch'): fit(large, tmp_path/'a/b')
    refused('run', NAME, '--tier', 'paper', '--root', tmp_path/'nothing', '--out', tmp_path/'c')
    refused('reproduce', '--only', RUN, '--tier', 'paper', '--root', tmp_path/'nothing',
            '--out', tmp_path/'d')
    assert list(tmp_path.iterdir()) == []
    (tmp_path/'mine').mkdir()
    refused('run', NAME, '--tier', 'paper', '--root', tmp_path/'nothing', '--out', tmp_path/'mine')
    assert list(tmp_path.rglob('*')) == [tmp_path/'mine'], 'what was there stays'


# What is planned without the data

def test_a_plan_needs_no_data(cli, tmp_path):
    code, out, err = cli('plan', RUN, '--tier', 'small', '--steps', '1',
                         '--root', tmp_path/'nothing', '--out', tmp_path/'runs')
    assert code == 0, err
    assert 'Timed on images of chance, since these sets are not in' in out and 'CIFAR10' in out
    row = fr'{RUN} +5 +15 +3000 '
    assert re.search(row, out), 'fifteen epochs of 10,000 images in batches of 50'
    assert list(tmp_path.iterdir()) == []


def test_a_plan_for_files_of_ones_own_asks_for_them(tmp_path, root):
    e = experiment()
    assert estimate.timed(e, root) == e and estimate.timed(e, tmp_path/'nothing') == e
    asks = estimate.timed(e, tmp_path/'nothing')
    with pytest.raises(UserError, match='images'):
        fit(asks, tmp_path/'runs', Runtime(tmp_path/'nothing'))


@pytest.mark.parametrize('data', [
    CIFAR10(), CIFAR10(train_per_class=1000, valid_per_class=5, test_per_class=7),
    CIFAR100(), CIFAR100(valid_per_class=10)])
def test_what_is_known_of_a_set_is_what_it_has(real, data):
    split, known = data.load(real(type(data).__name__.lower()), 0, 4), extent(data)
    assert known == (len(split.train), len(split.test), split.train.shape, len(split.classes))


@pytest.mark.parametrize('data, found', [
    (ImageNet1k(), (1281167, 50000, (3, 224, 224), 1000)),
    (EventImages(of=CIFAR10()), (50000, 10000, (2, 32, 32), 10)),
    (DVSCIFAR10(), (9000, 1000, (2, 48, 48), 10)),
    (NMNIST(), (60000, 10000, (2, 48, 48), 10)),
    (Validation(of=CIFAR10(valid_per_class=10)), (49900, 10000, (3, 32, 32), 10)),
    (Digits(), None), (FewCars(), None)])
def test_what_is_published_is_known(data, found):
    assert extent(data) == found
    if found is None: return
    split = Unseen(of=data).load(None, 0, 3)
    x, y = split.train.batch(torch.tensor([0, 5]))
    assert x.shape == ((2, *found[2]) if data.still else (3, 2, *found[2]))
    assert y.tolist() == [0, 5] and split.train.ready(x).dtype == torch.float32
    assert (len(split.train), len(split.test), len(split.classes)) == (found[0], found[1], found[3])
