"""Data are looked at before the first step, once, and never by writing where they lie.
Damage, litter, kinds of file, links and pipes."""
import json, os, signal, unicodedata
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

from snn_repro.analysis.exhibits import asked
from snn_repro.core.distributed import Distributed
from snn_repro.core.spec import UserError, edits
from snn_repro.data.image_folders import Folder, glance
from snn_repro.data.images import Npz
from snn_repro.data.prepare import check_set
from snn_repro.data.source import Validation
from snn_repro.experiments.experiment import Experiment
from snn_repro.experiments.tiers import find_tier
from snn_repro.training import data_check
from snn_repro.training.data_check import look_once
from snn_repro.training.environment import Runtime, try_steps
from snn_repro.training.fit import fit

RUN = 'tks-table3-cifar10-resnet19-baseline'
DATA = {'type': 'Folder', 'path': 'images', 'size': 16}


def said(f, *args, **kw):
    with pytest.raises(UserError) as e: f(*args, **kw)
    assert '\n' not in str(e.value) and e.value.where
    return str(e.value)


def noise(seed, *size):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8))


def arrays(file):
    np.savez(file, x_train=np.zeros((6, 8, 8), np.uint8), y_train=np.arange(6) % 2,
             x_test=np.zeros((2, 8, 8), np.uint8), y_test=[0, 1])


@pytest.fixture
def home(tmp_path):
    "Three classes, four training and two test images each, under `images`."
    for part, n in (('train', 4), ('test', 2)):
        for c in ('ant', 'bee', 'cat'):
            (tmp_path/'images'/part/c).mkdir(parents=True)
            for i in range(n): noise(i, 30 + i, 50 - i).save(tmp_path/'images'/part/c/f'{i}.jpg')
    return tmp_path/'images'


@contextmanager
def no_hang(seconds=20):
    def hang(*_): raise TimeoutError
    before = signal.signal(signal.SIGALRM, hang)
    signal.alarm(seconds)
    try: yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def experiment(**recipe) -> Experiment:
    "A tiny run on the folder."
    e = asked(RUN, find_tier('mini'))[1].to_dict()
    e['data'] = DATA
    e['augment'] = {'type': 'NoAugment'} if 'augment' not in recipe else recipe.pop('augment')
    e['recipe'] |= {'epochs': 2, 'batch': 4, 'test_every': 2} | recipe
    return Experiment.from_dict(e)


def cut_short(file): file.write_bytes(file.read_bytes()[:-100])
def emptied(file): file.write_bytes(b'')
def text(file): file.write_text('no image')
def piped(file):
    file.unlink()
    os.mkfifo(file)
def broken_link(file):
    file.unlink()
    file.symlink_to('nowhere.jpg')


# Before the first step

@pytest.mark.parametrize('harm, words', [
    (cut_short, 'truncated'), (emptied, 'is empty'), (text, 'cannot be decoded'),
    (piped, 'not a file'), (broken_link, 'no such file')])
@pytest.mark.parametrize('how', ['fit', 'trial'])
def test_a_bad_test_image_is_told_before_the_first_step(
        home, tmp_path, monkeypatch, harm, words, how):
    "It was met when its turn came: after an epoch, or after the last, or, if a pipe, never."
    e, bad = experiment(), home/'test/cat/1.jpg'
    harm(bad)
    monkeypatch.setattr('snn_repro.training.fit._train', None)
    for module in ('loop', 'environment'):
        monkeypatch.setattr(f'snn_repro.training.{module}.train_steps', None)
    with no_hang():
        if how == 'fit': line = said(fit, e, tmp_path/'runs', Runtime(tmp_path))
        else: line = said(try_steps, e, 1, Runtime(tmp_path))
    assert str(bad) in line and words in line
    if words != 'no such file': assert '1 such of 18 images' in line


def test_a_run_looks_once_and_the_next_not_at_all(home, tmp_path, monkeypatch):
    looks, look = [], data_check.look_at
    monkeypatch.setattr(data_check, 'look_at', lambda *a, **k: looks.append(1) or look(*a, **k))
    e, runs = experiment(), tmp_path/'runs'
    before = sorted(p for p in tmp_path.rglob('*'))
    assert fit(e, runs, Runtime(tmp_path)) and looks == [1]
    assert fit(edits(e, ['seed=1']), runs, Runtime(tmp_path)) and looks == [1]
    kept, = runs.glob('data-*.json')
    assert 'all 18 can be read' in json.loads(kept.read_text())['found'][0]
    # nothing is written elsewhere
    assert sorted(p for p in tmp_path.rglob('*') if runs not in (p, *p.parents)) == before
    noise(9, 30, 50).save(home/'train/ant/0.jpg')
    assert fit(edits(e, ['seed=2']), runs, Runtime(tmp_path)) and looks == [1, 1]


@pytest.mark.parametrize('change', ['time', 'size', 'name', 'more', 'elsewhere'])
def test_what_makes_a_look_necessary(home, tmp_path, change):
    out, file = tmp_path/'runs', home/'train/ant/0.jpg'
    out.mkdir()
    def look(root=tmp_path): look_once(Folder(size=16).load(root, 0, 1), out)
    look(), look()
    assert len(list(out.iterdir())) == 1
    match change:
        case 'time': os.utime(file, (1, 1))
        case 'size': file.write_bytes(file.read_bytes() + b'\0')
        case 'name': file.rename(file.with_name('x.jpg'))
        case 'more': noise(5, 20, 20).save(file.with_name('x.jpg'))
        case 'elsewhere':
            home.rename(tmp_path/'moved')
            (tmp_path/'root').mkdir()
            (tmp_path/'moved').rename(tmp_path/'root/images')
    look(tmp_path/'root' if change == 'elsewhere' else tmp_path)
    assert len(list(out.iterdir())) == 2


def test_nothing_is_kept_where_no_folder_of_runs_is(home, tmp_path, capsys):
    (home/'train/ant/x.gif').write_bytes(b'GIF')
    for out in (None, tmp_path/'none'):
        look_once(Folder(size=16).load(tmp_path, 0, 1), out)
        assert '1 .gif' in capsys.readouterr().err and not (tmp_path/'none').exists()


def test_every_part_is_looked_at_and_arrays_need_no_look(home, tmp_path):
    cut_short(home/'test/cat/1.jpg')
    judged = Validation(of=Folder(size=16, valid_per_class=1))
    # the damaged file belongs to the test, which is not used here
    look_once(judged.load(tmp_path, 0, 1))
    assert 'cat' in said(look_once, Folder(size=16, valid_per_class=1).load(tmp_path, 0, 1))
    arrays(tmp_path/'images.npz')
    look_once(Npz().load(tmp_path, 0, 1), tmp_path)
    assert not list(tmp_path.glob('data-*'))


def test_a_team_shares_the_files(home, tmp_path, monkeypatch):
    split, seen = Folder(size=16).load(tmp_path, 0, 1), []
    def look(sources, quiet):
        seen.append({n for s in sources for n in s.names})
        return '', []
    monkeypatch.setattr(data_check, 'look_at', look)
    class Us(Distributed):
        def on_main(self, do): return do()
        def on_each(self, do): return do()
    for rank in range(2): look_once(split, None, Us(rank, 2))
    assert seen[0] | seen[1] == {*split.train.names, *split.test.names}
    assert not seen[0] & seen[1] and len(seen[0]) == len(seen[1]) == 9


def test_reproduce_looks_before_it_starts_workers(home, tmp_path, monkeypatch):
    from snn_repro.training.launch import prepare
    emptied(home/'train/ant/3.jpg')
    assert '3.jpg' in said(prepare, [experiment()], tmp_path/'runs', Runtime(tmp_path))
    assert not (tmp_path/'runs/plan.jsonl').exists()
    noise(3, 33, 47).save(home/'train/ant/3.jpg')
    prepare([experiment()], tmp_path/'runs', Runtime(tmp_path))
    assert len(list((tmp_path/'runs').glob('data-*.json'))) == 1


# What does not belong

def test_litter_of_systems_is_no_image_and_no_class(home, tmp_path):
    "A Synology drive's @eaDir became training images, or a class."
    want = Folder(size=16).load(tmp_path, 0, 1)
    for name in ('train/@eaDir/ant/0.jpg', 'train/ant/@eaDir/0.jpg/SYNO.jpg', 'test/@eaDir/0.jpg',
                 'train/bee/.DS_Store', 'train/bee/Thumbs.db', 'train/bee/._0.jpg',
                 'train/bee/desktop.ini', 'train/__MACOSX/ant/0.jpg', 'train/#recycle/0.jpg',
                 'train/cat/.ipynb_checkpoints/0.jpg', 'test/lost+found/0.jpg'):
        (home/name).parent.mkdir(parents=True, exist_ok=True)
        (home/name).write_bytes(b'litter')
    split = Folder(size=16).load(tmp_path, 0, 1)
    assert split.classes == want.classes
    assert all(a.names == b.names for a, b in zip(split[:3], want[:3]))
    note, = split.train.notes
    assert '3 @eaDir' in note and '1 __MACOSX' in note and '1 lost+found' in note
    look_once(split)


def test_images_of_other_kinds_are_counted_aloud(home, tmp_path, capsys):
    for name in ('ant/a.gif', 'ant/b.GIF', 'bee/c.jfif', 'cat/d.avif', 'cat/e.heic'):
        (home/'train'/name).write_bytes(b'?')
    (home/'train/astray.png').write_bytes(b'?')
    for name in ('train/Thumbs.db', 'test/notes.txt', 'train/ant/IMG_7'):
        (home/name).write_bytes(b'?')   # the last may be an image
    code = fit(experiment(), tmp_path/'runs', Runtime(tmp_path))
    lines = capsys.readouterr().err.splitlines()
    assert code and [l for l in lines if '1 .avif, 1 .db, 2 .gif, 1 .heic, 1 .jfif, 1 .txt, 1 '
                     'without ending' in l]
    assert [l for l in lines if '1 images beside the folders of classes' in l]
    fit(edits(experiment(), ['seed=1']), tmp_path/'runs', Runtime(tmp_path))
    assert 'left out' not in capsys.readouterr().err


def test_a_class_of_other_kinds_says_which_are_read(home, tmp_path):
    (home/'train/dog').mkdir(), (home/'train/dog/a.gif').write_bytes(b'?')
    line = said(Folder().load, tmp_path, 0, 1)
    assert 'dog: has no image' in line and '.jpg' in line and '.webp' in line


def test_rotation_marks_are_told_and_not_heeded(home, tmp_path, capsys):
    exif = Image.Exif()
    for k, (name, mark) in enumerate((('0', 6), ('1', 8), ('2', 1), ('3', 77))):
        exif[0x0112] = mark
        noise(k, 30, 50).save(home/f'train/ant/{name}.jpg', exif=exif)
    look_once(Folder(size=16).load(tmp_path, 0, 1))
    words = '2 images have a rotation mark (EXIF), which is not heeded, train/ant/0.jpg for one'
    assert words in capsys.readouterr().err
    assert glance(home, 'train/ant/0.jpg')[1:3] == (50, 30)


def test_a_mangled_rotation_mark_is_none(home):
    exif = Image.Exif()
    exif[0x0112] = 6
    noise(0, 30, 50).save(home/'x.jpg', exif=exif)
    content = (home/'x.jpg').read_bytes()
    at = content.index(b'Exif')
    for i in range(at, at + len(exif.tobytes())):
        (home/'x.jpg').write_bytes(content[:i] + b'\xff' + content[i + 1:])
        try: glance(home, 'x.jpg')
        except UserError as e: raise AssertionError(i) from e


# Layouts

def test_val_is_the_test_part_where_there_is_no_other(home, tmp_path):
    want = Folder(size=16).load(tmp_path, 0, 1)
    (home/'test').rename(home/'val')
    split = Folder(size=16).load(tmp_path, 0, 1)
    assert [n.replace('val/', 'test/') for n in split.test.names] == list(want.test.names)
    assert 'val/ is the test part' in split.test.notes[0]
    (home/'test').mkdir()
    assert 'test: has no folders of classes' in said(Folder().load, tmp_path, 0, 1)
    (home/'test').rmdir(), (home/'val').rename(home/'dev')
    assert 'test: there is no such folder' in said(Folder().load, tmp_path, 0, 1)


def test_classes_that_look_alike_are_told_apart(home, tmp_path):
    one, two = (unicodedata.normalize(f, 'café') for f in ('NFC', 'NFD'))
    assert one != two
    (home/'train/ant').rename(home/'train'/one), (home/'test/ant').rename(home/'test'/two)
    line = said(Folder().load, tmp_path, 0, 1)
    assert "'caf\\xe9'" in line and "'cafe\\u0301'" in line
    assert 'Unicode' in line and 'rename' in line
    (home/'test'/two).rename(home/'test'/one), (home/'train/bee').rename(home/'train'/two)
    assert 'Unicode' in said(Folder().load, tmp_path, 0, 1)   # two classes of one name
    (home/'train'/two).rename(home/'train/bee')
    assert one in Folder(size=16).load(tmp_path, 0, 1).classes


# snn-repro data check

def test_a_folder_of_ones_own_is_checked(home, tmp_path, cli, refused):
    (home/'train/ant/x.gif').write_bytes(b'GIF')
    code, out, _ = cli('data', 'check', 'Folder', '--root', tmp_path)
    assert code == 0 and '12 training and 6 test images of 3 classes (fewest: ant 6' in out
    assert 'all 18 can be read; sizes: 50×30 to 47×33' in out and '1 .gif' in out
    home.rename(tmp_path/'birds')
    assert f'{tmp_path}/images/train' in refused('data', 'check', 'Folder', '--root', tmp_path)
    assert cli('data', 'check', 'Folder', '--root', tmp_path, '--set', 'path=birds')[0] == 0
    assert cli('data', 'check', 'Folder', '--set', f'path={tmp_path}/birds')[0] == 0
    cut_short(tmp_path/'birds/test/bee/1.jpg')
    line = refused('data', 'check', 'Folder', '--root', tmp_path, '--set', 'path=birds')
    assert 'bee/1.jpg: cannot be decoded' in line
    assert "unknown key 'colour'" in refused('data', 'check', 'Folder', '--set', 'colour=red')
    assert 'CIFAR10' in refused('data', 'prepare', 'Folder')


def test_arrays_of_ones_own_are_checked(tmp_path, refused):
    arrays(tmp_path/'a.npz')
    lines = check_set('Npz', tmp_path, ['path=a.npz'])
    assert '6 training and 2 test images of 2 classes (fewest: 0 4, 1 4)' in lines[0]
    assert 'images.npz: no such file' in refused('data', 'check', 'Npz', '--root', tmp_path)
    os.mkfifo(tmp_path/'images.npz')
    with no_hang(): assert 'not a file' in refused('data', 'check', 'Npz', '--root', tmp_path)


@pytest.mark.slow
def test_a_real_folder_is_looked_at(real, tmp_path):
    root = real('cifar10-folder')
    folder = next(p for p in (root, *root.iterdir()) if (p/'train').is_dir())
    lines = check_set('Folder', root, [f'path={folder}', 'train_per_class=20', 'test_per_class=20'])
    assert '200 training and 200 test images of 10 classes' in lines[0]
    assert 'all 400 can be read; sizes: 32×32 to 32×32' in lines[1] and len(lines) == 2
