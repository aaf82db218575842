"""Data of one's own, in four forms: checked, trained on and asked; and each mistake in one line
before the first step."""
import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import NAME
from PIL import Image

from snn_repro.core.spec import UserError
from snn_repro.data.event_files import read_arrays
from snn_repro.data.image_folders import Folder
from snn_repro.data.images import Npz
from snn_repro.data.own_sets import EventFolder, NpzClips, glance_at
from snn_repro.data.prepare import prepare_set
from snn_repro.data.recordings import whole_set
from snn_repro.data.source import check_split
from snn_repro.training.trained import load_run

EVENTS = 'tks-table3-dvs-cifar10-vgg-snn-tks'
SHORT = ['recipe.epochs=1', 'recipe.warmup=0', 'recipe.batch=4', 'T=2']
rng = np.random.default_rng(0)
Y = np.arange(12) % 3
STILLS = rng.integers(256, size=(12, 3, 16, 16), dtype=np.uint8)
CLIPS = rng.poisson(.5, (12, 2, 2, 16, 16))


def sets(*changes): return [w for c in changes for w in ('--set', c)]


def events(n=300, sensor=(20, 24), seed=0) -> dict:
    g = np.random.default_rng(seed)
    return {'t': np.sort(g.integers(50_000, size=n)), 'x': g.integers(sensor[1], size=n),
            'y': g.integers(sensor[0], size=n), 'p': g.integers(2, size=n)}


def save(path: Path, e: dict):
    "As `.npz` arrays, or as one structured array."
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == '.npz': return np.savez(path, **e)
    kinds = [('x', '<i2'), ('y', '<i2'), ('t', '<i8'), ('p', '?')]
    a = np.empty(len(e['t']), kinds)
    for k, _ in kinds: a[k] = e[k]
    np.save(path, a)


def folder_of_images(home: Path):
    for part, n in (('train', 4), ('val', 2)):
        for k, c in enumerate(('red cup', 'blue pen')):
            (home/part/c).mkdir(parents=True)
            for i in range(n):
                picture = Image.fromarray(rng.integers(256, size=(20, 30, 3), dtype=np.uint8))
                picture.save(home/part/c/f'a picture {i}.{("png", "jpg", "bmp", "webp")[i]}')


def arrays(home: Path, x=STILLS, **change):
    y = {'y_train': Y[:9], 'y_test': Y[9:]}
    np.savez(home, **y | {'x_train': x[:9], 'x_test': x[9:], 'classes': ['a', 'b c', 'd']} | change)


def recordings(home: Path, kinds=('.npz', '.npy'), **change):
    for part, n in (('train', 4), ('test', 2)):
        for k, c in enumerate(('one', 'a second')):
            for i in range(n):
                e = events(seed=10*k + i) | (change if i == 1 else {})
                save(home/part/c/f'{i}{kinds[i % len(kinds)]}', e)


def trained_on(cli, home: Path, name: str, *changes) -> Path:
    "The folder of a run of one epoch on the data in `home`."
    code, out, err = cli('run', name, *sets(*changes, *SHORT), '--root', home, '--out', home/'runs')
    assert code == 0, err
    done, = (home/'runs').glob('*/done.json')
    return done.parent


def says(cli, run: Path, *paths) -> list[str]:
    "The class of each sample in the files, as the command has it."
    code, _, err = cli('predict', run, *paths, '--csv', run/'said.csv')
    assert code == 0, err
    with open(run/'said.csv', newline='') as f: return [row['class'] for row in csv.DictReader(f)]


def test_images_in_folders_val_being_the_test(cli, tmp_path):
    folder_of_images(tmp_path/'mine')
    code, out, _ = cli('data', 'check', 'Folder', '--root', tmp_path, *sets('path=mine', 'size=16'))
    assert code == 0 and '8 training and 4 test images of 2 classes' in out
    assert 'val/ is the test part' in out and 'all 12 can be read' in out
    run = trained_on(cli, tmp_path, NAME, 'data=Folder', 'data.path=mine', 'data.size=16')
    one = Folder(path='mine', size=16).load(tmp_path, 0, 2).test.batch(torch.tensor([2]))[0]
    net = load_run(run)
    assert net.classes == ('blue pen', 'red cup')
    said = says(cli, run, tmp_path/'mine/val/red cup/a picture 0.png')
    assert said == [net.classes[net.predict(one).label]]


@pytest.mark.parametrize('x', [STILLS, STILLS.transpose(0, 2, 3, 1)/255., STILLS[:, 0] - 128.],
                         ids=['uint8', 'floats channels last', 'floats of another scale'])
def test_still_arrays(cli, tmp_path, x):
    arrays(tmp_path/'mine.npz', x)
    code, out, _ = cli('data', 'check', 'Npz', '--root', tmp_path, *sets('path=mine.npz'))
    assert code == 0 and '9 training and 3 test images of 3 classes' in out
    run = trained_on(cli, tmp_path, NAME, 'data=Npz', 'data.path=mine.npz')
    np.save(tmp_path/'some.npy', x[9:])
    said, net = says(cli, run, tmp_path/'some.npy'), load_run(run)
    stored = Npz(path='mine.npz').load(tmp_path, 0, 2).test.x
    assert said == [net.classes[i] for i in net.predict(stored).label]
    Image.fromarray(STILLS[0, 0]).save(tmp_path/'one.png')
    code, _, err = cli('predict', run, tmp_path/'one.png')
    assert (code, 'not on a scale from 0 to 1' in ''.join(err)) == ((1, True) if x.min() < 0
                                                                   else (0, False))


def test_floats_keep_their_scale_and_their_moments(tmp_path):
    x = STILLS.astype(np.float64)*3 - 100
    arrays(tmp_path/'images.npz', x)
    split = Npz().load(tmp_path, 0, 2)
    assert split.train.x.dtype == torch.float32
    assert np.array_equal(split.test.x.numpy(), x[9:].astype(np.float32))
    for c in range(3):
        values = [float(v) for v in x[:9, c].ravel()]
        mean = sum(values)/len(values)
        spread = (sum((v - mean)**2 for v in values)/len(values))**.5
        assert split.train.mean[c] == pytest.approx(mean, rel=1e-5)
        assert split.train.std[c] == pytest.approx(spread, rel=1e-5)


def test_event_clips_in_arrays(cli, tmp_path):
    arrays(tmp_path/'clips.npz', CLIPS)
    code, out, _ = cli('data', 'check', 'NpzClips', '--root', tmp_path)
    assert code == 0 and '9 training and 3 test clips of 2 frames of 3 classes' in out
    run = trained_on(cli, tmp_path, EVENTS, 'data=NpzClips')
    np.save(tmp_path/'some.npy', CLIPS[9:])
    said, net = says(cli, run, tmp_path/'some.npy'), load_run(run)
    x = torch.from_numpy(CLIPS[9:]).float().transpose(0, 1)
    assert said == [net.classes[i] for i in net.predict(x).label]
    assert torch.equal(net.predict(x.long()).logits, net.predict(x).logits)   # counts
    Image.fromarray(STILLS[0, 0]).save(tmp_path/'one.png')
    code, _, err = cli('predict', run, tmp_path/'one.png')
    assert code == 1 and 'give a .npy file of clips [N,T,C,H,W]' in err[0]


def test_recordings_in_folders(cli, tmp_path):
    recordings(tmp_path/'mine')
    how = ['path=mine', 'sensor=[20,24]', 'size=16']
    code, out, _ = cli('data', 'check', 'EventFolder', '--root', tmp_path, *sets(*how))
    assert code == 0 and '2 classes, 12 recordings' in out and 'all 12 can be read' in out
    run = trained_on(cli, tmp_path, EVENTS, 'data=EventFolder', *(f'data.{h}' for h in how))
    one, other = (tmp_path/'mine/test/one'/n for n in ('0.npz', '1.npy'))
    said, net = says(cli, run, one, other), load_run(run)
    clip = EventFolder(path='mine', sensor=(20, 24), size=16).clip
    x = torch.stack([clip(p, 2) for p in (one, other)], 1)
    assert said == [net.classes[i] for i in net.predict(x).label]
    (one.parent/'notes.txt').write_text('no recording')
    assert says(cli, run, one.parent) == said   # a folder: the recordings in it
    save(tmp_path/'wide.npz', events(sensor=(20, 40)))
    save(tmp_path/'one.npz', {k: v[:1] for k, v in events().items()})
    (tmp_path/'cut.bin').write_bytes(b'123')
    (tmp_path/'one.png').touch(), (tmp_path/'empty').mkdir()
    for name, words in (('wide.npz', 'outside the sensor'), ('empty', 'there is no file'),
                        ('one.npz', '2 frames of a recording of 0 µs'), ('cut.bin', 'cut short'),
                        ('one.png', 'it was trained on recordings')):
        code, _, err = cli('predict', run, tmp_path/name)
        assert code == 1 and len(err) == 1 and words in err[0] and 'remove' not in err[0], err


def checked(cli, root: Path, *changes) -> str:
    code, out, err = cli('data', 'check', 'EventFolder', '--root', root, *sets(*changes))
    assert code == 0, err
    return out


def test_a_check_of_recordings_tells_the_shortest_and_how_much_of_the_sensor_they_use(
        cli, refused, tmp_path):
    recordings(tmp_path/'events')
    all_of = [events(seed=10*k + i) for k in range(2) for i in range(4)]
    lasts = [int(e['t'][-1] - e['t'][0]) for e in all_of]
    out = checked(cli, tmp_path, 'sensor=[20,24]')
    assert f'shortest: {min(lasts):,} µs (t' in out and 'fewest events: 300 (' in out
    assert f'T may be 1 to {min(lasts):,}' in out
    assert 'x runs from 0 to 23, y from 0 to 19, on a sensor of height 20 and width 24' in out
    assert 'of the sensor is used' not in out
    # of 128×128 pixels these are 3 %: 480/16384
    assert ('only 3% of the sensor is used: if yours is smaller, set sensor=[20,24]'
            in checked(cli, tmp_path))
    assert 'T may be 1 to 300' in checked(cli, tmp_path, 'split_by=number')
    # sensor: 20 of 20 rows, 24 of 47 columns, and of 49
    assert 'is used' not in checked(cli, tmp_path, 'sensor=[20,47]')
    assert 'is used' in checked(cli, tmp_path, 'sensor=[20,49]')
    save(tmp_path/'events/train/one/1.npy', {k: v[:1] for k, v in events().items()})
    out = checked(cli, tmp_path, 'sensor=[20,24]')
    assert 'shortest: 0 µs (train/one/1.npy); fewest events: 1 (train/one/1.npy)' in out
    assert 'train/one/1.npy allows no T but 1' in out
    line = refused('run', EVENTS, *sets('data=EventFolder', 'data.sensor=[20,24]', *SHORT),
                   '--root', tmp_path, '--out', tmp_path/'runs')
    assert 'one/1.npy' in line and '2 frames of a recording of 0 µs (choose T from 1 to 1)' in line


@pytest.mark.parametrize('split_by', ['time', 'number', 'official'])
def test_the_frames_that_the_check_allows_can_be_cut_and_no_more(tmp_path, split_by):
    short = events(n=40)
    short['t'] = short['t'] % 97 + 5
    short['t'].sort()
    recordings(tmp_path/'events', **short)
    data = EventFolder(sensor=(20, 24), split_by=split_by, size=8)
    most = min(glance_at(data, tmp_path/'events', n).most
               for n in whole_set(data, tmp_path)[1].names)
    assert data.load(tmp_path, 0, most)
    with pytest.raises(UserError, match='choose T from'): data.load(tmp_path, 0, most + 1)


def test_frames_are_what_a_loop_counts_and_prepared_ones_the_same(tmp_path):
    recordings(tmp_path/'events')
    data = EventFolder(sensor=(24, 24), size=24)
    e = events(sensor=(24, 24), seed=3)
    save(tmp_path/'one.npy', e)
    T, wide = 3, (e['t'][-1] - e['t'][0])//3
    counts = np.zeros((T, 2, 24, 24))
    for t, x, y, p in zip(e['t'], e['x'], e['y'], e['p']):
        counts[min((t - e['t'][0])//wide, T - 1), p, y, x] += 1
    assert np.array_equal(data.clip(tmp_path/'one.npy', T).numpy(), counts)
    direct = data.load(tmp_path, 0, T)
    lines = prepare_set('EventFolder', tmp_path, T, ['sensor=[24,24]', 'size=24'])
    assert 'frames for 3 steps' in lines[0]
    made = data.load(tmp_path, 0, T)
    index = torch.arange(len(direct.train))
    assert type(made.train) is not type(direct.train) and made.test.names == direct.test.names
    assert torch.equal(made.train.batch(index)[0], direct.train.batch(index)[0])


def test_polarities_and_both_kinds_of_arrays_say_the_same(tmp_path):
    e = events()
    for name, change in {'a.npz': {}, 'b.npz': {'p': 2*e['p'] - 1}, 'c.npz': {'p': e['p'] > 0},
                         'd.npy': {}, 'e.npz': {'x': e['x'].astype(np.uint16)}}.items():
        save(tmp_path/name, e | change)
        found = read_arrays(tmp_path/name)
        assert all(np.array_equal(found[k], e[k]) and found[k].dtype == np.int64 for k in 'txyp')


def test_a_division_by_name_or_by_seed(tmp_path):
    for c in ('one', 'two'):
        for i in range(10): save(tmp_path/'events'/c/f'{i}.npz', events(seed=i))
    first, again = (EventFolder(split='first', sensor=(20, 24)).load(tmp_path, s, 2)
                    for s in (0, 1))
    assert first.test.names == again.test.names == ('one/9.npz', 'two/9.npz')
    drawn = [EventFolder(split='random', sensor=(20, 24)).load(tmp_path, s, 2).test.names
             for s in range(4)]
    assert len(set(drawn)) > 1 and all(len(d) == 2 for d in drawn)


E = events()
@pytest.mark.parametrize('change, words', [
    ({'x': E['x'] + 9}, r'x runs from \d+ to \d+, outside the sensor \(0–23\) of height 20'),
    ({'y': E['y'] - 1}, r'y runs from -1 to'), ({'t': E['t'][::-1]}, 'time runs backwards'),
    ({'p': E['x'] % 3}, r'polarities are \[0, 1, 2\]'), ({'t': E['t']/1e6}, r't is float64 \[300'),
    ({'x': E['x'][1:]}, 'different lengths: .299, 300'), ({'y': E['y'][:, None]}, 'y is int64'),
    ({'t': E['t'][:0], 'x': E['x'][:0], 'y': E['y'][:0], 'p': E['p'][:0]}, 'no events')])
def test_a_recording_that_cannot_be_used(change, words, tmp_path, refused):
    recordings(tmp_path/'events', kinds=('.npz',), **change)
    with pytest.raises(UserError, match=words):
        EventFolder(sensor=(20, 24)).load(tmp_path, 0, 2)
    line = refused('run', EVENTS, *sets('data=EventFolder', 'data.sensor=[20,24]', *SHORT),
                   '--root', tmp_path, '--out', tmp_path/'runs')
    assert '1.npz' in line and not list(tmp_path.glob('runs/*/done.json'))


def test_other_mistakes_with_recordings(tmp_path):
    def said(**how):
        with pytest.raises(UserError) as e:
            check_split(EventFolder(**{'sensor': (20, 24)} | how).load(tmp_path, 0, 2), 'own')
        return str(e.value)
    assert 'no recordings here' in said() and 'train/<class>/' in said()
    (tmp_path/'events/train/one').mkdir(parents=True)
    assert 'there are no recordings' in said()
    for part in ('train', 'test'): save(tmp_path/'events'/part/'one/0.npz', events())
    assert '1 class alone' in said()
    save(tmp_path/'events/test/two/0.npz', events())
    assert "class 'two' is tested but has no training sample" in said()
    names = events()
    save(tmp_path/'events/train/two/0.npz', {'ts': names['t'], 'x': names['x'], 'pol': names['p']})
    assert 'has no t, y, p, but ts, x, pol' in said()
    (tmp_path/'events/train/two/0.npz').write_bytes(b'PK\3\4 no archive')
    assert 'cannot be read as arrays of numbers' in said()
    np.save(tmp_path/'events/train/two/1.npy', np.zeros(5))
    (tmp_path/'events/train/two/0.npz').unlink()
    assert 'has no t, x, y, p, but plain numbers' in said()
    np.save(tmp_path/'events/train/two/1.npy', np.array([{}], object), allow_pickle=True)
    assert 'cannot be read as arrays of numbers' in said()
    assert 'sensor is [0, 4]' in said(sensor=(0, 4))


@pytest.mark.parametrize('x, change, words', [
    (STILLS, {'y_train': np.zeros(9, int), 'y_test': np.zeros(3, int), 'classes': ['a']},
     '1 class alone'),
    (STILLS, {'y_train': Y[:9]*2 % 4}, "class 'b c' is tested but has no training sample"),
    (STILLS, {'y_train': Y[:9] + 1}, 'label 3 is outside 0–2'),
    (STILLS, {'y_train': Y[:9] + 1, 'y_test': Y[9:] + 1, 'classes': list('abcd')},
     r"class 'a' has no training sample .*\(labels count from 0; give each class at least one"),
    (STILLS, {'y_train': np.array([*Y[:8], None])}, r'images.npz, y_train: cannot be read '
     r'\(objects, no numbers or text\) \(write it'),
    (STILLS, {'classes': np.array(['a', 'b', None])}, 'images.npz, classes: cannot be read'),
    (np.where(STILLS == 7, np.nan, STILLS), {}, 'NaN or infinite'),
    (STILLS*1e300, {}, 'NaN or infinite'), (STILLS.astype(np.int64), {}, 'the samples are int64'),
    (STILLS, {'x_test': STILLS[9:]/255}, 'training images uint8 .*test images float32'),
    (CLIPS, {}, 'NpzClips')])
def test_still_arrays_that_cannot_be_used(x, change, words, tmp_path):
    arrays(tmp_path/'images.npz', x, **change)
    with pytest.raises(UserError, match=words):
        check_split(Npz().load(tmp_path, 0, 2), 'Npz')


def test_advice_of_numpy_that_is_not_ours_is_not_passed_on(tmp_path):
    (tmp_path/'images.npz').write_text('1, 2, 3')
    with pytest.raises(UserError, match=r'cannot be read \(no arrays\) \(write it') as e:
        Npz().load(tmp_path, 0, 2)
    assert 'pickle' not in str(e.value)
    # what is not asked for may be anything
    arrays(tmp_path/'images.npz', notes=np.array([{}]))
    assert len(Npz().load(tmp_path, 0, 2).train) == 9


@pytest.mark.parametrize('x, T, words', [
    (CLIPS, 4, r'its clips have 2 frames, T is 4 \(set T=2\)'), (STILLS, 2, 'still images are for'),
    (np.where(CLIPS > 2, np.inf, CLIPS), 2, 'NaN or infinite'),
    (CLIPS.astype(complex), 2, 'the samples are complex128')])
def test_clips_that_cannot_be_used(x, T, words, tmp_path):
    arrays(tmp_path/'clips.npz', x)
    with pytest.raises(UserError, match=words): NpzClips().load(tmp_path, 0, T)


def test_the_kinds_of_counts_that_are_taken(tmp_path):
    for x, kept in ((CLIPS, torch.float32), (CLIPS.astype(np.uint8), torch.uint8),
                    (CLIPS > 0, torch.float32), (CLIPS/3, torch.float32)):
        arrays(tmp_path/'clips.npz', x)
        found = NpzClips().load(tmp_path, 0, 2).test
        assert found.x.dtype == kept and np.allclose(found.x.numpy(), x[9:])
        assert found.ready(found.batch(torch.arange(3))[0]).shape == (2, 3, 2, 16, 16)
