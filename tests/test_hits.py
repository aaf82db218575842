"""A finished run that is found, and an unfinished one that goes on.
The data are those that it saw, or it is said. A refused run leaves nothing."""
import os, re, shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from conftest import NAME, TINY, power_cut
from snn_repro.analysis.catalogue import contents
from snn_repro.analysis.exhibits import asked
from snn_repro.cli import plan as estimate
from snn_repro.cli.finished import finished
from snn_repro.core.files import SEAL, read_json, seal, write_json
from snn_repro.core.spec import UserError
from snn_repro.data.digits import Digits
from snn_repro.data.event_images import EventImages
from snn_repro.data.event_sets import DVSCIFAR10, NMNIST
from snn_repro.data.few_cars import FewCars
from snn_repro.data.image_folders import ImageNet1k
from snn_repro.data.images import CIFAR10, CIFAR100
from snn_repro.data.placeholder import Unseen, extent
from snn_repro.data.source import Data, Validation
from snn_repro.experiments.experiment import Experiment
from snn_repro.experiments.tiers import find_tier
from snn_repro.records.runs import SCHEMA, save_run
from snn_repro.records.seen import home_in
from snn_repro.training import fit as training
from snn_repro.training.data_check import home_of, trace
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
    training.load_split.cache_clear()
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
    load = training.load_split
    def counted(*a):
        hashed.append(a)
        return load(*a)
    counted.cache_clear = load.cache_clear
    monkeypatch.setattr(training, 'load_split', counted)
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
    training.load_split.cache_clear()
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


# A hit without torch

@pytest.fixture
def sealed_run(tmp_path):
    """A finished run of tier `small`, as far as its files tell, on CIFAR-10 under `sets`:
    `(runs, sets, folder of the run)`."""
    e, sets = asked(RUN, find_tier('small'))[1], tmp_path/'sets'
    file = sets/CIFAR10.folder/'data_batch_1'
    file.parent.mkdir(parents=True)
    file.write_bytes(b'pixels')
    rng = np.random.default_rng(0)
    env = {'seconds': 1., 'device': 'cpu', 'hardware': {'cpu': 'any', 'cores': 1},
           'versions': {'snn-repro': '0', 'torch': '2', 'python': '3'},
           'files': trace(e.data, sets)}
    history = pd.DataFrame({'epoch': [0], 'test': [.5]})
    save_run(tmp_path/'runs'/e.id, e.to_dict(), env, history, rng.normal(size=(4, 4, 10)),
             np.arange(4), rng.normal(size=(4, 2)), {'top1': .5, 'aurc': .5},
             {'w': np.zeros(1, np.float32)})
    return tmp_path/'runs', sets, tmp_path/'runs'/e.id


def at_once(runs, sets, seed=0): return finished(RUN, find_tier('small'), seed, runs, sets)


def resealed(folder, name, **more):
    write_json(folder/name, read_json(folder/name) | more)
    (folder/SEAL).unlink()
    seal(folder, SCHEMA)


def test_a_finished_run_is_found_with_its_data_as_they_were_or_gone(sealed_run):
    runs, sets, folder = sealed_run
    assert at_once(runs, sets).id == folder.name and at_once(runs, sets/'elsewhere')
    assert at_once(runs, sets, seed=1) is None and at_once(runs/'others', sets) is None


@pytest.mark.parametrize('change', [
    lambda runs, sets, folder: os.utime(sets/CIFAR10.folder/'data_batch_1', (1, 1)),
    lambda runs, sets, folder: (sets/'cifar10.npz').touch(),   # which is read before the folder
    lambda runs, sets, folder: resealed(folder, 'env.json', files=None),   # an older record
    lambda runs, sets, folder: resealed(folder, 'config.json', T=3),
    lambda runs, sets, folder: (folder/'checkpoint').mkdir(),
    lambda runs, sets, folder: (folder/SEAL).unlink()],
    ids=['touched', 'another file', 'older', 'another setting', 'checkpoint', 'not sealed'])
def test_what_cannot_be_told_at_once_is_left_to_fit(sealed_run, change):
    change(*sealed_run)
    assert at_once(*sealed_run[:2]) is None


def test_of_a_team_none_answers_at_once(sealed_run, teamed):
    teamed(0)
    assert at_once(*sealed_run[:2]) is None


def test_a_changed_file_is_told_at_once(sealed_run):
    runs, sets, folder = sealed_run
    (folder/'history.csv').write_text('epoch,test\n0,0.9\n')
    with pytest.raises(UserError, match='hash differs'): at_once(runs, sets)


@pytest.mark.parametrize('kind', sorted(contents()['homes']))
def test_both_look_for_a_data_set_in_the_same_places(kind, tmp_path):
    homes, data = contents()['homes'][kind], Data.from_dict({'type': kind})
    assert home_in(homes, tmp_path) == home_of(data, tmp_path)
    for folder, sign in reversed(homes):
        place = tmp_path/folder/sign
        place.touch() if place.suffix == '.npz' else place.mkdir(parents=True)
        assert home_in(homes, tmp_path) == home_of(data, tmp_path) == tmp_path/folder


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


def test_a_plan_needs_no_cars(cli, tmp_path):
    code, out, err = cli('plan', 'tks-table4', '--tier', 'small', '--steps', '1',
                         '--root', tmp_path/'nothing', '--out', tmp_path/'runs')
    assert code == 0, err
    said = ' '.join(out.split())
    assert 'these sets are not in' in said and 'FewCars. What it takes' in said
    assert 'as many images of a class are assumed' in said
    assert len(re.findall('^tks-table4-stanfordcars-', out, re.M)) == 3


def test_a_plan_needs_no_frames(tmp_path):
    e = asked('tks-table3-dvs-cifar10-vgg-snn-tks', find_tier('paper'))[1]
    (tmp_path/'CIFAR10-DVS/airplane').mkdir(parents=True)   # recordings, not all of them
    assert trace(e.data, tmp_path) is not None
    assert estimate.timed(e, tmp_path).data == Unseen(of=e.data)
    line, = estimate.unseen([e], tmp_path)
    assert 'these cannot be used as they are: DVSCIFAR10.' in line
    nowhere = tmp_path/'nothing'
    still = replace(e, data=EventImages(of=CIFAR10()))
    assert f'not in {nowhere}: CIFAR10, DVSCIFAR10.' in estimate.unseen([e, still], nowhere)[0]
    assert estimate.unseen([], tmp_path) == []


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
    (Digits(), None), (FewCars(count=20, test_per_class=50), None),
    (FewCars(size=32, valid_per_class=1), (300, 100, (3, 32, 32), 10))])
def test_what_is_published_is_known(data, found):
    assert extent(data) == found
    if found is None: return
    split = Unseen(of=data).load(None, 0, 3)
    x, y = split.train.batch(torch.tensor([0, 5]))
    assert x.shape == ((2, *found[2]) if data.still else (3, 2, *found[2]))
    assert y.tolist() == [0, 5] and split.train.ready(x).dtype == torch.float32
    assert (len(split.train), len(split.test), len(split.classes)) == (found[0], found[1], found[3])
