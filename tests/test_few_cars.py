"""The few cars of tier small: a made-up folder in the published layout, the real subset where there
is one, and what can be broken."""
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from snn_repro.core.spec import Spec, UserError
from snn_repro.data import few_cars
from snn_repro.data.few_cars import FewCars
from snn_repro.data.image_folders import StanfordCars, decode
from snn_repro.data.prepare import check_set, dataset_path, sets_table
from snn_repro.data.source import Validation, check_split, manifest
from snn_repro.experiments.papers import tks_experiment
from snn_repro.experiments.scaling import small

NAMES = ['Hummer', 'RL Sedan', 'TL Sedan', 'Unseen']


def said(f, *args, **kw):
    with pytest.raises(UserError) as e: f(*args, **kw)
    assert '\n' not in str(e.value) and e.value.where
    return str(e.value)


def annotations(names, labels):
    rows = np.zeros(len(names), [('class', object), ('fname', object)])
    rows['class'], rows['fname'] = labels, names
    return {'annotations': rows}


def lay_out(root, labels=(1, 2, 3) * 8, folder='stanford_cars'):
    "A set with these classes (from 1), an image a line, in the published layout."
    home = root/folder
    (home/'cars_train').mkdir(parents=True)
    (home/'devkit').mkdir()
    rng = np.random.default_rng(0)
    for i in range(len(labels)):
        Image.fromarray(rng.integers(0, 256, (40, 60, 3), np.uint8)).save(
            home/f'cars_train/{i + 1:05d}.jpg')
    (home/'devkit/train_perfect_preds.txt').write_text('\n'.join(map(str, labels)) + '\n')
    savemat(home/'devkit/cars_meta.mat', {'class_names': np.array([NAMES], object)})
    return home


FEW = FewCars(count=3, size=32, test_per_class=2, valid_per_class=1)


def test_the_split_is_by_class_and_disjoint_and_drawn_for_each_seed(tmp_path):
    home = lay_out(tmp_path)
    split = FEW.load(tmp_path, 0, 4)
    check_split(split, 'few')
    assert ([np.bincount(s.y).tolist() for s in split[:3]] == [[5] * 3, [1] * 3, [2] * 3] and
            split.classes == tuple(NAMES[:3]))
    names = [n for s in split[:3] for n in s.names]
    assert sorted(names) == [f'cars_train/{i + 1:05d}.jpg' for i in range(24)]
    for s in split[:3]:
        for x, y, n in zip(s.x, s.y, s.names):
            assert np.array_equal(x, decode(home/n, 32)) and y == (int(n[-9:-4]) - 1) % 3
    again, other = FEW.load(tmp_path, 0, 10), FEW.load(tmp_path, 1, 4)
    assert (again.test.names == split.test.names != other.test.names and
            manifest(split).count('\n') == 24)


def test_what_training_and_validation_take_never_changes_the_test(tmp_path):
    lay_out(tmp_path)
    tests = [FewCars(count=3, size=32, test_per_class=2, **more).load(tmp_path, 3, 4)
             for more in ({}, {'train_per_class': 2}, {'valid_per_class': 3})]
    assert len({s.test.names for s in tests}) == 1 and [len(s.train) for s in tests] == [18, 6, 9]
    judged = Validation(of=FEW).load(tmp_path, 3, 4)
    assert (judged.test.names == FEW.load(tmp_path, 3, 4).valid.names and
            not set(judged.test.names) & set(tests[0].test.names))


def test_only_images_that_are_there_and_only_the_first_classes(tmp_path):
    home = lay_out(tmp_path, (4, 1, 2, 3) * 6, folder='stanford_cars_10cls')
    for i in (2, 6): (home/f'cars_train/{i:05d}.jpg').unlink()
    split = FEW.load(tmp_path, 0, 4)
    assert [np.bincount(s.y).tolist() for s in split[:3]] == [[1, 3, 3], [1] * 3, [2] * 3]
    assert all(int(n[-9:-4]) % 4 != 1 for s in split[:3] for n in s.names)
    assert (FewCars(count=2, size=32, test_per_class=2).load(tmp_path, 0, 4).classes ==
            tuple(NAMES[:2]))


def test_the_published_folder_comes_first_and_the_official_lists_do_as_well(tmp_path):
    lay_out(tmp_path, folder='stanford_cars_10cls')
    home = lay_out(tmp_path)
    assert FEW.home(tmp_path) == home
    plain = FEW.load(tmp_path, 0, 4)
    (home/'devkit/train_perfect_preds.txt').unlink()
    assert 'cars_train_annos.mat' in said(FEW.load, tmp_path, 0, 4)
    names, labels = [f'{i + 1:05d}.jpg' for i in range(24)], [1, 2, 3] * 8
    savemat(home/'devkit/cars_train_annos.mat', annotations(names, labels))
    savemat(home/'cars_test_annos_withlabels.mat', annotations(names[:4], [1, 2, 3, 4]))
    official = FEW.load(tmp_path, 0, 4)
    assert all(a.names == b.names and torch.equal(a.x, b.x) and torch.equal(a.y, b.y)
               for a, b in zip(plain[:3], official[:3]))


def test_images_are_decoded_once_until_a_file_changes(tmp_path, monkeypatch):
    home, calls = lay_out(tmp_path), []
    few_cars._decoded.cache_clear()
    read = few_cars.Files.batch
    monkeypatch.setattr(few_cars.Files, 'batch',
                        lambda self, index, cut=None: calls.append(len(index)) or
                        read(self, index, cut))
    first = FEW.load(tmp_path, 0, 4)
    FEW.load(tmp_path, 1, 4)
    first.train.batch(torch.arange(5))
    assert calls == [24]
    Image.fromarray(np.zeros((50, 50, 3), np.uint8)).save(home/first.train.names[0])
    assert calls == [24] and not FEW.load(tmp_path, 0, 4).train.x[0].any() and calls == [24, 24]
    x, _ = first.train.batch(torch.arange(4))
    assert x.dtype == torch.uint8 and first.train.ready(x).std() > .5


@pytest.mark.parametrize('harm, word', [
    (lambda h: (h/'devkit/train_perfect_preds.txt').write_text('1\ntwo'), 'whole number'),
    (lambda h: (h/'devkit/train_perfect_preds.txt').write_bytes(b'\xff\xfe'), 'whole number'),
    (lambda h: (h/'devkit/train_perfect_preds.txt').write_text('1\n0\n7'),
     'line 2 names class 0 of 4 · 2 such'),
    (lambda h: (h/'devkit/train_perfect_preds.txt').write_text(''), 'preds.txt: the file is empty'),
    (lambda h: (h/'devkit/cars_meta.mat').write_bytes(b'nothing'), 'MATLAB'),
    (lambda h: savemat(h/'devkit/cars_meta.mat', {'other': 1}),
     'cars_meta.mat: has no class_names'),
    (lambda h: (h/'devkit/cars_meta.mat').unlink(), 'cars_meta.mat: no such file'),
    (lambda h: [f.unlink() for f in (h/'cars_train').iterdir()], 'class 0 has 0'),
    (lambda h: (h/'cars_train/00004.jpg').write_bytes(b'\xff\xd8 no'),
     '00004.jpg: cannot be decoded')])
def test_damage_is_told_in_one_line(tmp_path, harm, word):
    harm(lay_out(tmp_path))
    assert word in said(FEW.load, tmp_path, 0, 4)


def test_what_cannot_be_asked_for(tmp_path):
    lay_out(tmp_path)
    assert 'it has 4 classes, 5 are asked for' in said(FewCars(count=5).load, tmp_path, 0, 4)
    assert '12 images of each class' in said(FewCars(count=3, test_per_class=12).load,
                                             tmp_path, 0, 4)
    assert 'no training sample' in said(FewCars(count=3, size=32, test_per_class=8).load,
                                        tmp_path, 0, 4)
    assert ('--root' in said(FEW.load, None, 0, 4) and
            'not there' in said(FEW.load, tmp_path/'no', 0, 4))
    for bad in (dict(count=1), dict(test_per_class=None), dict(test_per_class=0), dict(size=4)):
        said(FewCars, **bad)


def test_settings_go_to_json_and_back_and_to_another_process():
    assert Spec.from_dict(FEW.to_dict()) == FEW == pickle.loads(pickle.dumps(FEW)) and FEW.still


def test_the_shelf_knows_whole_sets_alone(tmp_path):
    lay_out(tmp_path)
    lay_out(tmp_path, folder='stanford_cars_10cls')
    assert ('FewCars' not in sets_table(tmp_path).index and
            dataset_path(StanfordCars, tmp_path) == tmp_path/'stanford_cars')
    assert 'cars_train_annos.mat: no such file' in said(check_set, 'StanfordCars', tmp_path)


def test_tier_small_has_cars_and_no_other_fine_grained_set():
    for dataset, data in (('StanfordCars', FewCars(size=32)), ('StanfordDogs', None),
                          ('CUB-200-2011', None)):
        e = small(tks_experiment(dataset, 'SEW-ResNet-18', 'TKS'))
        assert (e and e.data) == data


def test_the_real_cars(real):
    root = real('cars')
    rows = [line.split()
            for line in (root/'stanford_cars_10cls/labels.txt').read_text().splitlines()]
    split = FewCars(size=32).load(root, 0, 4)
    assert ({f'cars_train/{n}': int(k) - 1 for n, k in rows} ==
            {n: y for s in split[:3] for n, y in zip(s.names, s.y.tolist())})
    assert (len(split.train) == 306 and np.bincount(split.test.y).tolist() == [10] * 10 and
            split.classes[0] == 'AM General Hummer SUV 2000')
    assert .7 < split.train.ready(split.train.x).std() < 1.5
