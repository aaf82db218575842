"""Mangled folders of data: a value or one line.
Never another exception, a hang, or an image under another label. What a look let pass can be read.
A few hundred examples; with SNN_REPRO_RELEASE thousands."""
import io, os, shutil, signal, struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.io import savemat
from test_fuzz import SPECIAL, broken, fuzz, hang, npz_file, often, zipped

from snn_repro.core.spec import UserError
from snn_repro.data.event_files import check_events, frames, read_aedat, read_bin
from snn_repro.data.event_sets import NMNIST
from snn_repro.data.file_lists import read_cars, read_cub, read_dogs
from snn_repro.data.image_folders import Files, Folder
from snn_repro.data.images import Npz
from snn_repro.training.data_check import look_once

pytestmark = [pytest.mark.release, pytest.mark.filterwarnings('ignore')]


def picture(kind: str, seed: int = 0) -> bytes:
    out = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), np.uint8)
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


def mat(**values) -> bytes:
    out = io.BytesIO()
    savemat(out, values)
    return out.getvalue()


def told(home: Path, do):
    """What `do` gives, or None where it raises a `UserError` of one line.
    Within ten seconds, and no file is written."""
    before = {p: os.lstat(p).st_mtime_ns for p in home.rglob('*')}
    signal.signal(signal.SIGALRM, hang)
    signal.alarm(10)
    try: return do()
    except UserError as e:
        line = str(e)
        assert line.isprintable() and len(line) < 2500 and (str(home) in line or e.where), line
    finally:
        signal.alarm(0)
        assert {p: os.lstat(p).st_mtime_ns for p in home.rglob('*')} == before


def lay_out(home: Path, files: dict) -> Path:
    "The files in a fresh folder; what is no bytes is something else than a file."
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    for name, content in files.items():
        path = home/name
        try: path.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError): continue
        match content:
            case _ if path.exists() or path.is_symlink(): continue
            case 'missing': continue
            case 'folder': path.mkdir()
            case 'fifo': os.mkfifo(path)
            case 'device': path.symlink_to('/dev/zero')
            case 'link' | 'nowhere': path.symlink_to('../nowhere/new.jpg')
            case 'loop': path.symlink_to(path.parent)
            case 'itself': path.symlink_to(path.name)
            case _: path.write_bytes(content)
    return home


TREE = {f'{part}/{c}/{i}.{kind}': picture(kind.replace('jpg', 'jpeg'), 9 * k + i)
        for part in ('train', 'test') for k, c in enumerate(('ant', 'bee', 'cat'))
        for i, kind in enumerate(('jpg', 'png', 'bmp'))}
STRAY = ['train/@eaDir/ant/0.jpg', 'train/ant/@eaDir/0.jpg', 'test/.DS_Store', 'train/bee/._0.jpg',
         'train/bee/x.gif', 'test/cat/x.jfif', 'train/x.jpg', 'val/ant/0.jpg', 'train/café/0.jpg',
         'test/cafe\u0301/0.jpg', 'train/cat/deep/er/0.jpg', 'train/dog/0.avif',
         'train/a\nb/0.png', 'test/ant/Thumbs.db']


@st.composite
def mangled_tree(draw):
    files = dict(TREE)
    for name in draw(st.lists(st.sampled_from(sorted(files)), max_size=3, unique=True)):
        other = st.sampled_from([*SPECIAL, 'loop', 'itself', b'', b'text'])
        files[name] = draw(often(broken(files[name]), other, st.sampled_from([*TREE.values()])))
    for name in draw(st.lists(st.sampled_from(STRAY), max_size=2, unique=True)):
        files[name] = draw(st.sampled_from([picture('jpeg'), b'', 'fifo', 'folder', 'loop']))
    return files


@fuzz(1600)
@given(files=mangled_tree())
def test_a_folder_is_read_or_refused(tmp_path, files):
    home = lay_out(tmp_path/'images', files)
    def read():
        split = Folder(size=8).load(tmp_path, 0, 1)
        look_once(split)
        for source in (split.train, split.test):
            x, y = source.batch(torch.arange(len(source)))   # what the look let pass can be read
            assert [split.classes[k] for k in y] == [n.split('/')[1] for n in source.names]
            assert len(x) == len(source)
        return split
    split = told(home, read)
    if split:
        names = {*split.train.names, *split.test.names}
        assert not [n for n in names if '@eaDir' in n or '/.' in n or not (home/n).is_file()]
        assert {n for n in TREE if (home/n).is_file()} <= names


ODD_CELLS = ['', 'x', 'nan', '2.5', '-1', '0', '3', '1e3', '9' * 30, '١', '²', '../x', 'a\tb', '\0',
             '1 1']


@st.composite
def mangled_text(draw, content: str):
    "Lines with cells replaced, dropped or doubled; or broken bytes."
    if draw(st.integers(0, 4)) == 0: return draw(broken(content.encode()))
    lines = content.splitlines()
    for _ in range(draw(st.integers(1, 2))):
        i = draw(st.integers(0, len(lines) - 1))
        cells = lines[i].split(' ')
        cells[draw(st.integers(0, len(cells) - 1))] = draw(st.sampled_from(ODD_CELLS))
        line, another = ' '.join(cells), lines[draw(st.integers(0, len(lines) - 1))]
        lines[i] = draw(st.sampled_from([line, line, another, '']))
    return '\n'.join(lines).encode()


CUB = {'images.txt': '1 a/1.jpg\n2 a/2.jpg\n3 b/3.jpg',
       'image_class_labels.txt': '1 1\n2 1\n3 2', 'train_test_split.txt': '1 1\n2 0\n3 1',
       'classes.txt': '1 a\n2 b'}


@fuzz(1200)
@given(data=st.data())
def test_lists_of_text_are_read_or_refused(tmp_path, data):
    files = {n: c.encode() for n, c in CUB.items()}
    names = st.lists(st.sampled_from(sorted(CUB)), min_size=1, max_size=2, unique=True)
    for name in data.draw(names):
        files[name] = data.draw(often(mangled_text(CUB[name]), st.sampled_from(SPECIAL)))
    home = lay_out(tmp_path/'cub', files)
    parts = told(home, lambda: read_cub(home, 'fetch it again'))
    if parts:
        answers = parts.train[1] + parts.test[1]
        assert len(parts.train[0]) == len(parts.train[1])
        assert all(type(k) is int and 0 <= k < len(parts.classes) for k in answers)
        if all(files[n] == CUB[n].encode() for n in CUB if n != 'images.txt'):
            assert parts.train[1] == [0, 1] and parts.test[1] == [0]


labels = st.one_of(
    st.sampled_from([1, 2, 0, -1, 3, 2.5, np.nan, np.inf, 1j, True, '2', 'x', '', np.zeros(0),
                     np.zeros((0, 0)), np.ones((2, 2)), np.array([[2]]), np.uint64(2**64 - 1),
                     1e300]),
    st.floats(), st.integers(-2**31, 2**31))
odd_names = st.sampled_from(['a', '', 'a/b', 'a\0b', 7, np.zeros(0), np.nan])


def in_cells(values) -> np.ndarray:
    out = np.zeros((len(values), 1), object)
    for i, v in enumerate(values): out[i, 0] = v
    return out


@fuzz(1200)
@given(data=st.data())
def test_lists_of_matlab_are_read_or_refused(tmp_path, data):
    odd = data.draw(st.lists(labels, min_size=2, max_size=3))
    names = data.draw(often(st.just([f'n{i}-Pug/{i}.jpg' for i in range(len(odd))]),
                            st.lists(odd_names, min_size=2, max_size=3)))
    rows = np.zeros(min(len(odd), len(names)), [('class', object), ('fname', object)])
    for row, k, n in zip(rows, odd, names): row['class'], row['fname'] = k, n
    contents = {'train_list.mat': {'file_list': in_cells(names), 'labels': in_cells(odd)},
                'test_list.mat': {'file_list': in_cells(['a/b.jpg']), 'labels': in_cells([1])},
                'devkit/cars_train_annos.mat': {'annotations': rows},
                'devkit/cars_meta.mat': {'class_names': in_cells(['a', 'b'])},
                'cars_test_annos_withlabels.mat': {'annotations': rows}}
    files = {n: mat(**c) for n, c in contents.items()}
    some = st.lists(st.sampled_from(sorted(files)), max_size=2, unique=True)
    broken_ones = data.draw(often(st.just([]), some))
    for name in broken_ones:
        files[name] = data.draw(often(broken(files[name]), st.sampled_from(SPECIAL)))
    home = lay_out(tmp_path/'mat', files)
    for read in (read_dogs, read_cars):
        parts = told(home, lambda: read(home, 'fetch it again'))
        if parts and not broken_ones:
            def one(v): return int(np.asarray(v).ravel()[0]) if not isinstance(v, str) else int(v)
            # no label was rounded or moved
            assert parts.train[1] == [one(v) - 1 for v in odd[:len(parts.train[1])]]


ARRAYS = {'x_train': np.arange(96, dtype=np.uint8).reshape(6, 4, 4), 'y_train': np.arange(6) % 2,
          'x_test': np.zeros((2, 4, 4), np.uint8), 'y_test': np.arange(2),
          'classes': np.array(['a', 'b'])}


@fuzz(1200)
@given(data=st.data())
def test_arrays_are_read_or_refused(tmp_path, monkeypatch, data):
    monkeypatch.setenv('SNN_REPRO_CANARY', str(tmp_path))
    content = data.draw(often(npz_file(zipped(ARRAYS), ARRAYS), st.sampled_from(SPECIAL)))
    home = lay_out(tmp_path/'npz', {'images.npz': content})
    split = told(home, lambda: Npz().load(home, 0, 1))
    if split:
        assert len(split.train) and split.train.x.dtype == torch.uint8
        assert int(split.train.y.max()) < len(split.classes)


def events(seed: int, n: int = 40) -> dict:
    rng = np.random.default_rng(seed)
    return {'t': np.sort(rng.integers(0, 300_000, n)), 'x': rng.integers(0, 34, n),
            'y': rng.integers(0, 34, n), 'p': rng.integers(0, 2, n)}


def as_bin(e: dict) -> bytes:
    columns = [e['x'], e['y'], e['p'] << 7 | e['t'] >> 16, e['t'] >> 8 & 255, e['t'] & 255]
    return np.stack(columns, 1).astype(np.uint8).tobytes()
def as_aedat(e: dict) -> bytes:
    return b'#!AER-DAT2.0\r\n# x\r\n' + b''.join(
        struct.pack('>II', (127 - y) << 1 | (127 - x) << 8 | (1 - p), t)
        for t, x, y, p in zip(*(e[k].tolist() for k in 'txyp')))


@fuzz(1200)
@given(data=st.data())
def test_a_recording_is_read_or_refused(tmp_path, data):
    kinds = [(as_bin, read_bin, (34, 34), 23), (as_aedat, read_aedat, (128, 128), 32)]
    make, read, sensor, bits = data.draw(st.sampled_from(kinds))
    e = events(data.draw(st.integers(0, 3)))
    shift = data.draw(st.sampled_from([0, 0, 2**bits - 100_000]))
    on = e | {'t': e['t'] + shift}
    content = make(on | {'t': on['t'] % 2**bits})
    changed = data.draw(often(st.just(content), broken(content), st.sampled_from(SPECIAL)))
    home = lay_out(tmp_path/'events', {'a': changed})
    T = data.draw(st.integers(1, 5))
    split_by = data.draw(st.sampled_from(['time', 'number', 'official']))
    reorder = data.draw(st.booleans())
    def clip():
        found = check_events(read(home/'a'), sensor, str(home/'a'), reorder)
        assert (np.diff(found['t']) >= 0).all()
        return found, frames(found, T, sensor, split_by, str(home/'a'))
    read_ = told(home, clip)
    if changed == content: assert read_ and all(np.array_equal(read_[0][k], on[k]) for k in 'txyp')
    if read_:
        there, counted = len(read_[0]['t']), read_[1].sum()
        assert 0 <= counted <= there and (split_by == 'official' or counted == there)


NMNIST_FILES = {f'N-MNIST/{part}/{c}/{i}.bin': as_bin(events(10 * c + i))
                for part in ('Train', 'Test') for c in range(10) for i in range(2)}
SOME = ['N-MNIST/Train/0/0.bin', 'N-MNIST/Test/9/1.bin', 'N-MNIST/Train/5/1.bin',
        'N-MNIST/Train/@eaDir/0.bin', 'N-MNIST/Train/3/a\tb.bin', 'N-MNIST/Train/3/²1.bin',
        'N-MNIST/Train/3/' + '9' * 200 + '.bin']


@fuzz(400)
@given(data=st.data())
def test_a_folder_of_recordings_is_read_or_refused(tmp_path, data):
    files = dict(NMNIST_FILES)
    for name in data.draw(st.lists(st.sampled_from(SOME), min_size=1, max_size=2, unique=True)):
        other = st.sampled_from([*SPECIAL, b'', as_bin(events(9))])
        files[name] = data.draw(often(broken(as_bin(events(0))), other))
    home = lay_out(tmp_path/'data', files)
    split = told(home, lambda: NMNIST(size=8).load(home, 0, 2))
    if split:
        for source in (split.train, split.test):
            assert len(source)
            assert all(n.split('/')[1] == split.classes[k] for n, k in zip(source.names, source.y))


def test_the_mangled_folders_were_honest_once(tmp_path):
    split = Folder(size=8).load(lay_out(tmp_path/'images', TREE).parent, 0, 1)
    look_once(split)
    assert isinstance(split.train, Files) and len(split.train) == 9
    cub = lay_out(tmp_path/'cub', {n: c.encode() for n, c in CUB.items()})
    assert read_cub(cub, '').train == (['images/a/1.jpg', 'images/b/3.jpg'], [0, 1])
    assert len(NMNIST(size=8).load(lay_out(tmp_path/'data', NMNIST_FILES), 0, 2).train) == 20
    assert len(Npz().load(lay_out(tmp_path/'npz', {'images.npz': zipped(ARRAYS)}), 0, 1).train) == 6
