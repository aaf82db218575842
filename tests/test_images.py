"""The published layouts of still-image sets, on real data where there is some, and every way in
which they can be broken."""
import os, pickle, signal

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import loadmat, savemat
from torchvision import datasets, transforms

from snn_repro.core.rng import named_generator
from snn_repro.core.spec import Spec, UserError
from snn_repro.data import file_lists, image_folders
from snn_repro.data.file_lists import read_cars, read_cub, read_dogs, read_tree
from snn_repro.data.image_folders import (CUB200, Files, Folder, ImageNet1k, StanfordCars,
                                          StanfordDogs, decode)
from snn_repro.data.images import (CIFAR10, CIFAR100, Images, Npz, cifar_images, content_order,
                                   subset, pixel_stats, stratified_indices)
from snn_repro.data.source import check_split, manifest


def said(f, *args, **kw):
    with pytest.raises(UserError) as e: f(*args, **kw)
    assert '\n' not in str(e.value) and e.value.where
    return str(e.value)


def noise(n, *shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), np.uint8)


def npz(path, **change):
    a = dict(x_train=noise(30, 8, 8, 3), y_train=np.arange(30) % 3,
             x_test=noise(9, 8, 8, 3, seed=1), y_test=np.arange(9) % 3) | change
    np.savez(path, **{k: v for k, v in a.items() if v is not None})
    return a


# Arrays

@pytest.mark.parametrize('view', [lambda x: x, lambda x: x.transpose(0, 3, 1, 2),
                                  lambda x: x[..., :1], lambda x: x[..., 0]])
def test_npz_in_any_order_of_axes(tmp_path, view):
    x = noise(30, 8, 8, 3)
    npz(tmp_path/'images.npz', x_train=view(x), x_test=view(noise(9, 8, 8, 3, seed=1)))
    split = Npz().load(tmp_path, 0, 4)
    c = split.train.shape[0]
    assert (torch.equal(split.train.x, torch.from_numpy(x.transpose(0, 3, 1, 2)[:, :c])) and
            split.classes == ('0', '1', '2'))
    check_split(split, 'npz')
    ready = split.train.ready(split.train.x)
    assert (ready.mean((0, 2, 3)).abs().max() < 1e-4 and
            (ready.std((0, 2, 3)) - 1).abs().max() < 1e-2)


def test_pixel_stats_are_the_moments():
    x = noise(5, 3, 8, 8)
    mean, std = pixel_stats(x)
    assert (np.allclose(mean, x.mean((0, 2, 3))) and np.allclose(std, x.std((0, 2, 3))) and
            pixel_stats(x * 0) == ((0,) * 3, (1,) * 3))


@pytest.mark.parametrize('change, word', [
    (dict(x_train=None), 'x_train'), (dict(x_train=np.zeros((30, 8, 8, 3), np.float32)), 'float32'),
    (dict(x_train=noise(30, 8, 8, 4)), '4'),
    (dict(x_train=noise(30, 8)), 'shape'), (dict(y_train=np.arange(29) % 3), '29 labels'),
    (dict(y_test=np.arange(9) % 4), 'outside 0–2'),
    (dict(y_train=np.full(30, 2 ** 62)), '30 training samples for 4611686018427387905 classes'),
    (dict(y_train=(np.arange(30) % 3 - 1).astype(np.uint32)),
     '30 training samples for 4294967296 classes'),
    (dict(y_train=np.full(30, -1)), 'label -1 is outside 0–0 · 30 such'),
    (dict(y_test=np.full(9, 2 ** 64 - 1, np.uint64)), '0–2 · 9 such'),
    (dict(y_train=np.full(30, 2 ** 62), classes=np.array(['a', 'b'])), 'outside 0–1 · 30 such'),
    (dict(classes=np.array([b'a', b'\xff', b'c'])), 'are not text'),
    (dict(classes=np.arange(3.)), 'float64'),
    (dict(classes=np.array(['a', 'b\tc', 'd'])), r"'b\tc'"),
    (dict(classes=np.array(['a', 'b', 'c\n'])), r"'c\n'"),
    (dict(classes=np.array(['a', 'b\u2028', 'c'])), r"'b\u2028'"),
    (dict(classes=np.array([1114112], np.uint32).view('U1')), 'outside 0–0'),
    (dict(classes=np.array([97, 1114112, 98], np.uint32).view('U1')), 'are not text'),
    (dict(classes=np.array([], 'U1')), 'outside'),
    (dict(y_train=np.zeros(30)), 'float64'), (dict(y_train=np.zeros((30, 1), int)), '[30, 1]'),
    (dict(x_test=noise(9, 9, 9, 3)), 'one size'),
    (dict(x_train=np.array([{'a': 1}] * 30, object)), 'read'),
    (dict(y_train=np.arange(30) % 3 - 1), 'outside'),
    (dict(x_train=noise(2, 8, 8, 3), y_train=np.array([0, 2])), '2 training samples for 3 classes'),
    (dict(y_train=np.arange(30) % 2 * 2, y_test=np.ones(9, int)), 'no training sample'),
    (dict(x_test=noise(0, 8, 8, 3), y_test=np.zeros(0, int)), 'N > 0')])
def test_bad_arrays_are_told_in_one_line(tmp_path, change, word):
    npz(tmp_path/'images.npz', **change)
    assert word in said(Npz().load, tmp_path, 0, 4)


def test_a_file_that_is_no_npz(tmp_path):
    for content in (b'', b'PK\3\4 nothing', b'\x93NUMPY', pickle.dumps([1, 2, 3])):
        (tmp_path/'images.npz').write_bytes(content)
        assert 'images.npz' in said(Npz().load, tmp_path, 0, 4)
    assert ('images.npz' in said(Npz(path='no/images.npz').load, tmp_path, 0, 4) and
            '--root' in said(Npz().load, None, 0, 4))


# Subsets

def test_a_subset_has_as_many_of_each_class_and_keeps_its_validation(tmp_path):
    npz(tmp_path/'images.npz')
    sizes = ((None, None), (5, 2), (3, 2))
    full, some, few = (Npz(valid_per_class=2, train_per_class=n,
                           test_per_class=t).load(tmp_path, 3, 4) for n, t in sizes)
    for split, train, test in ((full, 8, 3), (some, 5, 2), (few, 3, 2)):
        assert [np.bincount(s.y).tolist() for s in split[:3]] == [[train] * 3, [2] * 3, [test] * 3]
        assert torch.equal(split.valid.x, full.valid.x)
    def images(s): return {x.numpy().tobytes() for x in s.x}
    assert (images(few.train) < images(some.train) < images(full.train) and
            not images(full.train) & images(full.valid))
    assert not torch.equal(few.train.x,
                           Npz(valid_per_class=2, train_per_class=3).load(tmp_path, 4, 4).train.x)


def test_too_many_are_refused(tmp_path):
    npz(tmp_path/'images.npz')
    assert '11 images of each class' in said(Npz(train_per_class=9, valid_per_class=2).load,
                                             tmp_path, 0, 4)
    assert 'asked for' in said(Npz(test_per_class=4).load, tmp_path, 0, 4)
    for bad in (dict(train_per_class=0), dict(valid_per_class=-1), dict(test_per_class=0)):
        said(CIFAR10, **bad)
    said(Folder, size=4)
    a, b, c = stratified_indices(np.arange(30) % 3, (2, 3, None), 3, named_generator(0, 'x'))
    assert sorted([*a, *b, *c]) == list(range(30))


@pytest.mark.parametrize('absent', [0, 1, 2])
def test_an_absent_class_is_refused_wherever_it_is(tmp_path, absent):
    y = np.array([k for k in range(3) if k != absent] * 4)
    assert f'class {absent} has 0' in said(
        stratified_indices, y, (2, None), 3, named_generator(0, 'x'))
    assert len(stratified_indices(y, (0, None), 3, named_generator(0, 'x'))[1]) == 8
    npz(tmp_path/'images.npz', x_test=noise(8, 8, 8, 3), y_test=y)
    assert (len(Npz().load(tmp_path, 0, 4).test) == 8 and
            f'class {absent} has 0' in said(Npz(test_per_class=2).load, tmp_path, 0, 4))


def test_class_names_are_text_in_any_script(tmp_path):
    for names in (np.array(['Frösche', '日本', 'c']),
                  np.array([s.encode() for s in ('Frösche', '日本', 'c')])):
        npz(tmp_path/'images.npz', classes=names)
        assert Npz().load(tmp_path, 0, 4).classes == ('Frösche', '日本', 'c')
    npz(tmp_path/'images.npz', classes=np.array([7, 8, 9]))
    assert Npz().load(tmp_path, 0, 4).classes == ('7', '8', '9')


def test_a_cifar_file_with_too_many_classes(tmp_path):
    n = 65537
    np.savez(tmp_path/'cifar10.npz', x_train=np.zeros((n, 1, 1), np.uint8), y_train=np.arange(n),
             x_test=np.zeros((1, 1, 1), np.uint8), y_test=[0])
    assert 'too large' in said(CIFAR10().load, tmp_path, 0, 4)


@pytest.mark.parametrize('cls', [CIFAR10, CIFAR100])
def test_the_throttled_host_is_asked_last(cls):
    for a in cls.about.archives:
        assert 'toronto' not in a.urls[0] and 'toronto' in a.urls[-1] and len(a.md5) == 32


def test_settings_go_to_json_and_back():
    for d in (CIFAR10(train_per_class=5), CIFAR100(), Npz(path='a.npz'), Folder(path='b', size=64),
              ImageNet1k(), CUB200(), StanfordDogs(),
              StanfordCars()):
        assert Spec.from_dict(d.to_dict()) == d and d.still and isinstance(d, Images)


# CIFAR

def official(root, arrays, fine=False, shuffled=True):
    "Write CIFAR in its authors' layout: pickled rows of 3,072 bytes, in another order."
    home = root/('cifar-100-python' if fine else 'cifar-10-batches-py')
    home.mkdir()
    key, p = (('fine_labels', 'labels')[not fine],
              np.random.default_rng(0).permutation(len(arrays['y_train'])))
    def rows(x, y): return {'data': x.transpose(0, 3, 1, 2).reshape(len(x), -1), key: y.tolist()}
    batches = {'train': p} if fine else {f'data_batch_{i + 1}': q
                                         for i, q in enumerate(np.array_split(p, 5))}
    for name, q in batches.items():
        (home/name).write_bytes(pickle.dumps(rows(arrays['x_train'][q], arrays['y_train'][q])))
    (home/('test' if fine else 'test_batch')).write_bytes(
        pickle.dumps(rows(arrays['x_test'], arrays['y_test'])))
    names = {('fine_label_names' if fine else 'label_names'): [str(c) for c in arrays['classes']]}
    (home/('meta' if fine else 'batches.meta')).write_bytes(pickle.dumps(names))


def toy_cifar(cls, monkeypatch):
    k = 100 if cls is CIFAR100 else 10
    a = dict(x_train=noise(5 * k, 32, 32, 3), y_train=np.arange(5 * k) % k,
             x_test=noise(2 * k, 32, 32, 3, seed=1), y_test=np.arange(2 * k) % k,
             classes=np.array([f'c{i:02}' for i in range(k)]))
    digests = tuple(content_order(a[f'x_{p}'].transpose(0, 3, 1, 2), a[f'y_{p}'])[1]
                    for p in ('train', 'test'))
    monkeypatch.setattr(cls, 'digests', digests)
    return a


@pytest.mark.parametrize('cls', [CIFAR10, CIFAR100])
def test_cifar_is_the_same_from_every_form(tmp_path, monkeypatch, cls):
    a = toy_cifar(cls, monkeypatch)
    (tmp_path/'one').mkdir(); (tmp_path/'two').mkdir()
    p = np.random.default_rng(5).permutation(len(a['y_train']))
    np.savez(tmp_path/'one'/f'{cls.stem}.npz',
             **a | dict(x_train=a['x_train'][p], y_train=a['y_train'][p]))
    official(tmp_path/'two', a, fine=cls is CIFAR100)
    line = said(cls().load, tmp_path/'two', 0, 4)   # torchvision's sums
    assert 'not the published ones' in line and 'download=True' not in line
    assert (f'remove {tmp_path/"two"/cls.folder}, then: snn-repro data prepare {cls.__name__} '
            f'--root {tmp_path/"two"}' in line)
    monkeypatch.setattr('torchvision.datasets.cifar.check_integrity', lambda *a: True)
    one, two = (cls(valid_per_class=1).load(tmp_path/w, 0, 4) for w in ('one', 'two'))
    assert one.classes == two.classes and len(one.classes) == (100 if cls is CIFAR100 else 10)
    for s, t in zip(one[:3], two[:3]):
        assert (torch.equal(s.x, t.x) and torch.equal(s.y, t.y) and s.mean == t.mean and
                s.shape == (3, 32, 32))


def test_one_false_pixel_or_label_is_found(tmp_path, monkeypatch):
    a = toy_cifar(CIFAR10, monkeypatch)
    np.savez(tmp_path/'cifar10.npz', **a)
    CIFAR10().load(tmp_path, 0, 4)
    for k, at in (('x_train', (7, 5, 5, 1)), ('y_test', (0,))):
        b = a | {k: a[k].copy()}
        b[k][at] += 1
        np.savez(tmp_path/'cifar10.npz', **b)
        assert 'not those of CIFAR10' in said(CIFAR10().load, tmp_path, 0, 4)
    (tmp_path/'cifar10.npz').unlink()
    assert 'data prepare CIFAR10' in said(CIFAR10().load, tmp_path, 0, 4)


def test_real_cifar10(real):
    home = real('cifar10')
    cifar_images.cache_clear()
    split = CIFAR10(valid_per_class=100).load(home, 0, 4)
    assert ([len(s) for s in split[:3]] == [49000, 1000, 10000] and split.classes[3] == 'cat' and
            split.train.x.dtype == torch.uint8)
    check_split(split, 'CIFAR10')
    assert (split.train.y.diff() >= 0).all() and set(np.bincount(split.train.y)) == {4900}
    assert torch.tensor(split.train.mean).isclose(split.train.x.float().mean((0, 2, 3)),
                                                  atol=.5).all()
    small = CIFAR10(train_per_class=50, test_per_class=10).load(home, 1, 4)
    assert len(small.train) == 500 and len(small.test) == 100 and small.valid.y.numel() == 0
    cifar_images.cache_clear()


# Files

@pytest.fixture
def pictures(tmp_path):
    for p, n in (('train', 4), ('test', 2)):
        for c in ('cat', 'ant', 'bee'):
            (tmp_path/'images'/p/c).mkdir(parents=True)
            for i in range(n):
                Image.fromarray(noise(1, 30 + i, 50 - i, 3, seed=i)[0]).save(
                    tmp_path/'images'/p/c/f'{i}.png')
    return tmp_path


def test_a_batch_is_what_torchvision_makes_of_it(pictures):
    split = Folder(size=28).load(pictures, 0, 4)
    assert (split.classes == ('ant', 'bee', 'cat') and
            split.train.names[:2] == ('train/ant/0.png', 'train/ant/1.png'))
    check_split(split, 'Folder')
    library = datasets.ImageFolder(pictures/'images'/'train')
    assert ([c for _, c in library.samples] == split.train.y.tolist() and
            library.classes == list(split.classes))
    index = torch.tensor([7, 1, 11])
    to_tensor = transforms.PILToTensor()
    x, y = split.train.batch(index)
    view = transforms.Compose([transforms.Resize(32), transforms.CenterCrop(28), to_tensor])
    assert (all(torch.equal(a, view(library[i][0])) for a, i in zip(x, index)) and
            y.tolist() == [1, 0, 2])
    x, _ = split.train.batch(index, lambda n, h, w: (n, 2 * n, h // 2, w // 3))
    for n, i in enumerate(index):
        image = library[i][0]
        box = transforms.functional.resized_crop(image, n, 2 * n, image.height // 2,
                                                 image.width // 3, (28, 28))
        assert torch.equal(x[n], to_tensor(box))


def test_subsets_of_files_carry_their_names(pictures):
    split = Folder(size=16, train_per_class=2, valid_per_class=1).load(pictures, 0, 4)
    assert (len(split.train.names) == len(split.train) == 6 and
            not set(split.train.names) & set(split.valid.names))
    assert (split.train.batch(torch.arange(6))[0].shape == (6, 3, 16, 16) and
            len(manifest(split).splitlines()) == 6 + 3 + 6)
    whole = Folder(size=16).load(pictures, 0, 4).train
    i = whole.names.index(split.train.names[3])
    assert torch.equal(split.train.batch(torch.tensor([3]))[0],
                       whole.batch(torch.tensor([i]))[0]) and subset(whole, np.arange(12)) is whole


RED = {'1': (1, 255, 255, 255), 'L': (76, 76, 76, 76), 'LA': ((76, 255), 76, 76, 76),
       'RGB': ((200, 10, 30), 200, 10, 30),
       'RGBA': ((200, 10, 30, 255), 200, 10, 30), 'CMYK': ((55, 245, 225, 0), 200, 10, 30),
       'P': (1, 200, 10, 30)}

@pytest.mark.parametrize('mode', RED)
def test_every_mode_of_bytes_becomes_rgb(tmp_path, mode):
    value, *rgb = RED[mode]
    image = Image.new(mode, (20, 30), value)
    if mode == 'P': image.putpalette([0, 0, 0, 200, 10, 30])
    image.save(tmp_path/f'x.{"tif" if mode == "CMYK" else "png"}')
    assert (decode(next(tmp_path.iterdir()), 16) == np.array(rgb, np.uint8)[:, None, None]).all()


@pytest.mark.parametrize('dtype, ending', [(np.uint16, 'png'), (np.uint16, 'tif'), ('>u2', 'tif'),
                                           (np.int32, 'tif'), (np.float32, 'tif')])
def test_pixels_that_are_no_bytes_are_refused(tmp_path, dtype, ending):
    "Pillow would make them white: 1,000 of 65,535 is nearly black."
    Image.fromarray(np.full((30, 20), 1000, dtype)).save(tmp_path/f'x.{ending}')
    line = said(decode, tmp_path/f'x.{ending}', 16)
    assert f'x.{ending}' in line and 'not of 8 bits' in line and 'store it' in line


def test_a_narrow_strip_is_refused_before_it_is_enlarged(tmp_path):
    for n, size in enumerate([(1, 30000), (30000, 1), (2, 202), (101, 1)]):
        Image.new('L', size).save(tmp_path/f'{n}.png')
        for cut in (None, lambda h, w: (0, 0, h, w)):
            line = said(decode, tmp_path/f'{n}.png', 16, cut)
            assert f'{n}.png: {size[0]}×{size[1]} pixels' in line and 'crop it' in line
    Image.new('L', (2, 200), 7).save(tmp_path/'ok.png')
    assert (decode(tmp_path/'ok.png', 16) == 7).all()


def test_broken_folders_are_told_in_one_line(pictures):
    home = pictures/'images'
    (home/'test'/'dog').mkdir()
    assert "'dog'" in said(Folder().load, pictures, 0, 4)
    (home/'test'/'dog').rmdir(); (home/'train'/'dog').mkdir()
    assert 'no image' in said(Folder().load, pictures, 0, 4)
    (home/'train'/'dog').rmdir()
    assert 'no such folder' in said(Folder(path='nowhere').load, pictures, 0, 4)
    file = home/'train'/'ant'/'0.png'
    source = Folder(size=16).load(pictures, 0, 4).train
    for content, words in ((b'', 'is empty'), (b'text', 'cannot be decoded'),
                           (file.read_bytes()[:200], 'cannot be decoded')):
        file.write_bytes(content)
        assert words in said(source.batch, torch.tensor([0]))
    file.unlink()
    assert ('0.png' in said(source.batch, torch.tensor([0])) and
            '0.png: no such file' in said(lambda: list(source.values())))


@pytest.mark.parametrize('target', ['train/cat', 'train', '.', '..', '/'])
def test_a_link_that_leads_back_is_refused(pictures, target):
    (pictures/'images/train/cat/up').symlink_to((pictures/'images'/target).resolve())
    line = said(read_tree, pictures/'images')
    assert 'is the same folder as' in line and f'{os.sep}up' in line and 'remove the link' in line


def test_links_to_elsewhere_are_followed_once(pictures):
    want, home = read_tree(pictures/'images'), pictures/'images'
    (home/'train').rename(pictures/'disk')
    (home/'train').symlink_to(pictures/'disk')
    (pictures/'disk'/'bee').rename(pictures/'bee')
    (pictures/'disk'/'bee').symlink_to('../bee')
    assert read_tree(home) == want
    (pictures/'disk'/'wasp').symlink_to('../bee')
    assert 'wasp: is the same folder as' in said(read_tree, home)


def test_hidden_files_are_passed_over(pictures):
    want, home = read_tree(pictures/'images'), pictures/'images'
    (home/'train'/'cat'/'._0.png').write_bytes(b'\0\5\x16\7')
    for hidden in ('train/.cache', 'train/cat/.thumbnails'):
        (home/hidden).mkdir()
        (home/hidden/'0.png').write_bytes(b'')
    assert read_tree(home) == want


def test_a_folder_that_cannot_be_read_is_told(pictures, monkeypatch):
    scan, closed = os.scandir, pictures/'images'/'train'/'bee'
    def scandir(path):
        if os.fspath(path) == str(closed):
            raise PermissionError(13, 'Permission denied', str(closed))
        return scan(path)
    monkeypatch.setattr(os, 'scandir', scandir)
    assert (said(read_tree, pictures/'images') ==
            f'{closed}: cannot be read (permission denied) (make it readable)')


@pytest.mark.parametrize('name',
                         [b'caf\xe9.png', b'a\tb.png', b'a\nb.png', 'a\u2028b.png'.encode()])
def test_a_name_that_is_no_line_of_text_is_refused(pictures, name):
    good = pictures/'images'/'train'/'ant'/'0.png'
    os.rename(good, os.path.join(os.fsencode(good.parent), name))
    line = said(Folder(size=16).load, pictures, 0, 4)
    assert repr(os.fsdecode(b'train/ant/' + name)) in line and 'rename it' in line and line.encode()
    os.rename(os.path.join(os.fsencode(good.parent), name), good)
    os.rename(good.parent, os.path.join(os.fsencode(good.parent.parent), name))
    assert ('rename it' in said(Folder(size=16).load, pictures, 0, 4) or
            'train has not' in said(Folder(size=16).load, pictures, 0, 4))


def test_one_pool_of_threads_decodes_for_all(pictures, monkeypatch):
    made, pool = [], image_folders.ThreadPoolExecutor
    monkeypatch.setattr(image_folders, 'ThreadPoolExecutor',
                        lambda *a, **k: made.append(1) or pool(*a, **k))
    image_folders.decoders.cache_clear()
    split = Folder(size=16, valid_per_class=1).load(pictures, 0, 4)
    assert not made
    for s in (split.train, split.valid, split.test):
        x, _ = s.batch(torch.arange(len(s)))
        assert all(np.array_equal(a, s.image(i)) for i, a in enumerate(x))
    assert made == [1]
    image_folders.decoders.cache_clear()


def test_an_error_leaves_the_pool_usable(pictures):
    source = Folder(size=16).load(pictures, 0, 4).train
    want, file = source.batch(torch.arange(12))[0], source.folder/source.names[5]
    content = file.read_bytes()
    file.write_bytes(b'')
    assert '1.png' in said(source.batch, torch.arange(12))
    file.write_bytes(content)
    assert torch.equal(source.batch(torch.arange(12))[0], want)


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='there is no fork')
def test_a_forked_process_has_threads_of_its_own(pictures):
    source = Folder(size=16).load(pictures, 0, 4).train
    source.batch(torch.arange(4))
    if not (child := os.fork()):
        signal.alarm(20)
        os._exit(0 if source.batch(torch.arange(4))[0].shape == (4, 3, 16, 16) else 1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize('cls, fetched', [(CUB200, True), (StanfordDogs, True),
                                          (StanfordCars, False), (ImageNet1k, False)])
def test_the_remedy_for_a_partial_copy_leads_somewhere(tmp_path, cls, fetched):
    """`data prepare` skips what is there, so it must go first; what cannot be fetched is got from
    its origin."""
    home = tmp_path/cls.folder
    home.mkdir()
    want = (f'remove {home}, then: snn-repro data prepare {cls.__name__} --root {tmp_path}'
            if fetched else cls.about.origin)
    if cls is not ImageNet1k: assert want in said(cls().load, tmp_path, 0, 4)
    assert want in cls().again(home)
    Image.new('RGB', (9, 9)).save(home/'0.png')
    (home/'0.png').write_bytes(b'')
    source = Files(home, ('0.png',), torch.tensor([0]), 16, cls().again(home))
    assert want in said(source.image, 0)


def test_the_order_is_not_the_disks(pictures, monkeypatch):
    walk, want = file_lists.os.walk, read_tree(pictures/'images')
    monkeypatch.setattr(file_lists.os, 'walk',
                        lambda *a, **k: [(d, s, n[::-1]) for d, s, n in [*walk(*a, **k)][::-1]])
    assert read_tree(pictures/'images') == want


# Published layouts

def test_imagenet(pictures, monkeypatch):
    assert 'not there' in said(ImageNet1k().load, pictures, 0, 4)
    (pictures/'images').rename(pictures/'imagenet')
    (pictures/'imagenet'/'test').rename(pictures/'imagenet'/'val')
    assert '12 training images, not 1281167' in said(ImageNet1k().load, pictures, 0, 4)
    monkeypatch.setattr(ImageNet1k, 'numbers', (12, 6, 3))
    split = ImageNet1k(size=32).load(pictures, 0, 4)
    assert (split.test.names[0] == 'val/ant/0.png' and isinstance(split.test, Files) and
            split.test.shape == (3, 32, 32))


def test_cub(tmp_path, monkeypatch):
    home = tmp_path/'CUB_200_2011'
    names = [f'00{k + 1}.Bird_{k}/Bird_{i}.jpg' for k in range(3) for i in range(4)]
    for n in names:
        (home/'images'/n).parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (30, 40)).save(home/'images'/n)

    def write(name, values):
        (home/f'{name}.txt').write_text(''.join(f'{i + 1} {v}\n' for i, v in enumerate(values)))

    write('images', names); write('classes', ['001.Bird_0', '002.Bird_1', '003.Bird_2'])
    write('image_class_labels', [i // 4 + 1 for i in range(12)])
    write('train_test_split', [1, 0, 1, 0] * 3)
    assert '6 training images, not 5994' in said(CUB200().load, tmp_path, 0, 4)
    monkeypatch.setattr(CUB200, 'numbers', (6, 6, 3))
    split = CUB200(size=16).load(tmp_path, 0, 4)
    assert (split.train.names == tuple(f'images/{n}' for n in names[::2]) and
            split.test.y.tolist() == [0, 0, 1, 1, 2, 2])
    (home/'images'/names[5]).unlink()
    assert 'listed but not there · 1 such of 12' in said(CUB200().load, tmp_path, 0, 4)
    write('image_class_labels', [4] * 12)
    assert 'classes.txt has not' in said(CUB200().load, tmp_path, 0, 4)
    write('train_test_split', [1] * 11)
    assert 'different images' in said(CUB200().load, tmp_path, 0, 4)
    (home/'classes.txt').write_bytes(b'\xff\xfe')
    assert 'classes.txt' in said(CUB200().load, tmp_path, 0, 4)


def cub(home):
    for n in ('a', 'b'):
        ((home/'images/1.Wren').mkdir(parents=True, exist_ok=True),
         Image.new('RGB', (30, 40)).save(home/f'images/1.Wren/{n}.jpg'))
    for name, text in (('images', '1 1.Wren/a.jpg\n2 1.Wren/b.jpg'),
                       ('image_class_labels', '1 1\n2 1'), ('train_test_split', '1 1\n2 0'),
                       ('classes', '1 1.Wren')):
        (home/f'{name}.txt').write_text(text)
    return home


@pytest.mark.parametrize('name, text, words', [
    # it was left out of both parts in silence
    ('train_test_split', '1 1\n2 2', 'train_test_split.txt: image 2 has neither 0 nor 1 · 1 such'),
    ('train_test_split', '1 1\n2 yes', "train_test_split.txt, image 2: not a whole number: 'yes'"),
    ('image_class_labels', '1 1\n2 nan',
     "image_class_labels.txt, image 2: not a whole number: 'nan'"),
    ('image_class_labels', '1 1\n2 1.5', "image 2: not a whole number: '1.5'"),
    ('image_class_labels', '1 1\n2 7',
     'image_class_labels.txt: image 2 has a class that classes.txt has not · 1 such'),
    # the second took the first one's place
    ('images', '1 1.Wren/a.jpg\n1 1.Wren/b.jpg', 'images.txt, line 2: 1 comes twice'),
    ('images', '1 1.Wren/a.jpg\nb 1.Wren/b.jpg', "images.txt, line 2: not a whole number: 'b'"),
    ('images', '1 1.Wren/a.jpg\n2', "images.txt, line 2: not a number and a text: '2'"),
    ('classes', '', 'classes.txt: the file is empty')])
def test_a_line_of_cub_is_told_by_its_number(tmp_path, name, text, words):
    home = cub(tmp_path)
    assert read_cub(home, 'again').train == (['images/1.Wren/a.jpg'], [0])
    (home/f'{name}.txt').write_text(text)
    assert words in said(read_cub, home, 'again')


def cells(values): return np.array([[v] for v in values], object)


@pytest.mark.parametrize('lists', ['', 'lists'])
def test_dogs(tmp_path, monkeypatch, lists):
    home = tmp_path/'StanfordDogs'
    names = [f'n0{k}-Dog_{k}/n0{k}_{i}.jpg' for k in range(3) for i in range(3)]
    for n in names:
        (home/'Images'/n).parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (30, 40)).save(home/'Images'/n)
    (home/lists).mkdir(exist_ok=True)
    for name, of in (('train_list.mat', [0, 1, 3, 4, 6, 7]), ('test_list.mat', [2, 5, 8])):
        savemat(home/lists/name, {'file_list': cells([names[i] for i in of]),
                                  'annotation_list': cells([names[i][:-4] for i in of]),
                                  'labels': np.array([[i // 3 + 1] for i in of], np.uint8)})
    monkeypatch.setattr(StanfordDogs, 'numbers', (6, 3, 3))
    split = StanfordDogs(size=16).load(tmp_path, 0, 4)
    assert (split.classes == ('Dog_0', 'Dog_1', 'Dog_2') and
            split.train.y.tolist() == [0, 0, 1, 1, 2, 2])
    assert split.test.names[1] == f'Images/{names[5]}'
    (home/lists/'test_list.mat').write_bytes(b'MATLAB 5.0 MAT-file, cut short')
    assert 'test_list.mat' in said(StanfordDogs().load, tmp_path, 0, 4)


def annotations(names, labels):
    kinds = [(k, object) for k in ('bbox_x1', 'bbox_y1', 'bbox_x2', 'bbox_y2', 'class', 'fname')]
    rows = [tuple(np.array([[v]], np.uint8) for v in (1, 1, 9, 9, k)) + (np.array([n]),)
            for n, k in zip(names, labels)]
    return {'annotations': np.array([rows], dtype=kinds).reshape(1, -1)}


NO_LABELS = [(np.nan, 'not a whole number: nan'), (np.zeros((0, 0)), 'not a whole number: nothing'),
             ('two', "not a whole number: 'two'"),
             (2.5, 'not a whole number: 2.5'),
             (np.array([[1, 2]]), 'not a whole number: array([1, 2]'), (np.inf, 'inf'), (1j, '1j'),
             (0, 'names class 0'),
             (-1, 'names class -1'), (3, 'names class 3 of 2'),
             (np.uint64(2**64 - 1), 'not a whole number: 18446744073709551615')]


def cars(home, labels=(1, 2), names=('1.jpg', '2.jpg')):
    (home/'devkit').mkdir(parents=True, exist_ok=True)
    savemat(home/'devkit/cars_meta.mat', {'class_names': cells(['Hummer', 'Sedan']).T})
    rows = np.zeros(len(labels), [('class', object), ('fname', object)])
    for row, k, n in zip(rows, labels, names): row['class'], row['fname'] = k, n
    for path in ('devkit/cars_train_annos.mat', 'cars_test_annos_withlabels.mat'):
        savemat(home/path, {'annotations': rows})
    return home


@pytest.mark.parametrize('label, words', NO_LABELS)
def test_a_class_of_cars_that_is_none_is_told_with_its_row(tmp_path, label, words):
    "NaN, nothing and text were tracebacks, and 2.5 became 2."
    home = cars(tmp_path)
    assert read_cars(home, 'again')[:3] == ((['cars_train/1.jpg', 'cars_train/2.jpg'], [0, 1]),
                                            (['cars_test/1.jpg', 'cars_test/2.jpg'], [0, 1]),
                                            ('Hummer', 'Sedan'))
    line = said(read_cars, cars(tmp_path, (1, label)), 'again')
    assert 'cars_train_annos.mat' in line and 'row 2' in line and words in line


@pytest.mark.parametrize('name', [np.nan, np.zeros((0, 0)), 7, ''])
def test_a_name_of_cars_that_is_none_is_told_with_its_row(tmp_path, name):
    assert 'cars_train_annos.mat, row 2: not a name' in said(
        read_cars, cars(tmp_path, names=('1.jpg', name)), 'again')


@pytest.mark.parametrize('label, words', [(k, w) for k, w in NO_LABELS if 'of 2' not in w])
def test_a_label_of_dogs_that_is_none_is_told_with_its_row(tmp_path, label, words):
    labels = np.zeros((2, 1), object)
    labels[:, 0] = [1, 0]
    labels[1, 0] = label
    savemat(tmp_path/'train_list.mat',
            {'file_list': cells(['n1-Pug/a.jpg', 'n1-Pug/b.jpg']), 'labels': labels})
    line = said(read_dogs, tmp_path, 'again')
    assert 'train_list.mat' in line and 'row 2' in line and words in line


def test_names_of_dogs_without_a_folder_and_lists_of_unequal_length(tmp_path):
    for name in ('train_list.mat', 'test_list.mat'):
        savemat(tmp_path/name, {'file_list': cells(['a.jpg']), 'labels': np.array([[1]])})
    assert read_dogs(tmp_path, 'again').train == (['Images/a.jpg'], [0])   # an IndexError before
    savemat(tmp_path/'test_list.mat',
            {'file_list': cells(['a.jpg', 'b.jpg']), 'labels': np.array([[1]])})
    assert '2 names, 1 labels' in said(read_dogs, tmp_path, 'again')


@pytest.mark.parametrize('name', ['devkit/cars_meta.mat', 'devkit/cars_train_annos.mat',
                                  'cars_test_annos_withlabels.mat'])
def test_a_missing_list_says_that_it_is_missing(tmp_path, name):
    home = cars(tmp_path)
    for content, words in ((b'', 'the file is empty'),
                           (b'MATLAB 5.0', 'cannot be read as a MATLAB file')):
        (home/name).write_bytes(content)
        assert f'{home/name}: {words}' in said(read_cars, home, 'again')
    (home/name).unlink()
    assert f'{home/name}: no such file or directory (again)' in said(read_cars, home, 'again')
    os.mkfifo(home/name)
    assert f'{home/name}: this is not a file' in said(read_cars, home, 'again')


@pytest.mark.parametrize('devkit', ['devkit', 'devkit/devkit', 'car_devkit/devkit'])
def test_folders_within_folders_of_cars_are_found(tmp_path, devkit):
    "As Kaggle's copies have them: cars_train/cars_train/00001.jpg."
    home = cars(tmp_path/'plain')
    (home/'devkit').rename(home/'lists')
    (home/devkit).parent.mkdir(exist_ok=True, parents=True), (home/'lists').rename(home/devkit)
    for part in ('cars_train', 'cars_test'): (home/part/part).mkdir(parents=True)
    train, test, classes, _ = read_cars(home, 'again')
    assert (train == (['cars_train/cars_train/1.jpg', 'cars_train/cars_train/2.jpg'], [0, 1]) and
            test[0][0] == 'cars_test/cars_test/1.jpg' and len(classes) == 2)


def test_a_class_too_many_is_named(tmp_path, monkeypatch):
    for c, k in (('n1', 3), ('n2', 3), ('other', 1)):
        for part in ('train', 'val'):
            (tmp_path/'imagenet'/part/c).mkdir(parents=True)
            for i in range(k): Image.new('RGB', (9, 9)).save(tmp_path/'imagenet'/part/c/f'{i}.JPEG')
    monkeypatch.setattr(ImageNet1k, 'numbers', (7, 7, 2))
    assert '3 classes, not 2 · fewest: other 2, n1 6' in said(ImageNet1k().load, tmp_path, 0, 4)


def test_real_cars_in_the_official_layout(real, tmp_path, monkeypatch):
    """Real photographs and the devkit's real names of classes; the lists that the sample lacks are
    written as the devkit has them."""
    given = real('cars')/'stanford_cars_10cls'
    rows = [line.split() for line in (given/'labels.txt').read_text().splitlines()][::8]
    home = tmp_path/'stanford_cars'
    for i, (name, _) in enumerate(rows):
        to = home/('cars_test' if i % 3 == 0 else 'cars_train')/name
        to.parent.mkdir(parents=True, exist_ok=True)
        to.symlink_to(given/'cars_train'/name)
    (home/'devkit').mkdir()
    meta = loadmat(given/'devkit'/'cars_meta.mat')
    savemat(home/'devkit'/'cars_meta.mat', {'class_names': meta['class_names']})
    tests, trains = rows[::3], [r for i, r in enumerate(rows) if i % 3]
    savemat(home/'devkit'/'cars_train_annos.mat',
            annotations(*zip(*((n, int(k)) for n, k in trains))))
    savemat(home/'cars_test_annos_withlabels.mat',
            annotations(*zip(*((n, int(k)) for n, k in tests))))
    assert 'not 8144' in said(StanfordCars().load, tmp_path, 0, 4)
    monkeypatch.setattr(StanfordCars, 'numbers', (len(trains), len(tests), 196))
    train, test, classes = StanfordCars(size=64).read(tmp_path)
    library = datasets.StanfordCars(tmp_path, split='test')
    assert list(classes) == library.classes and [c for _, c in library._samples] == test.y.tolist()
    view = transforms.Compose([transforms.Resize(73), transforms.CenterCrop(64),
                               transforms.PILToTensor()])
    x, y = test.batch(torch.arange(4))
    assert (all(torch.equal(a, view(library[i][0])) for i, a in enumerate(x)) and
            train.batch(torch.tensor([0]))[0].float().std() > 10)
    assert 'samples for 196 classes' in said(StanfordCars().load, tmp_path, 0, 4)
    savemat(home/'devkit'/'cars_train_annos.mat', {'other': 1})
    assert 'annotations' in said(StanfordCars().load, tmp_path, 0, 4)
