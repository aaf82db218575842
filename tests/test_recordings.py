"""Event files and the sets made of them: SpikingJelly as the oracle, real N-MNIST, bad files,
splits, a preparation that is killed."""
import os, random, resource, shlex, shutil, signal, subprocess, sys, warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from spikingjelly.datasets import cifar10_dvs, n_caltech101, n_mnist
from spikingjelly.datasets.utils import integrate_events_by_fixed_frames_number, load_ATIS_bin

from snn_repro.core.files import SEAL
from snn_repro.core.spec import Spec, UserError, edits
from snn_repro.data import recordings
from snn_repro.data.event_files import (check_events, cut, frames, list_recordings, natural,
                                        read_aedat, read_bin, resized)
from snn_repro.data.event_sets import DVSCIFAR10, NMNIST, NCaltech101
from snn_repro.data.recordings import Clips
from snn_repro.data.source import check_split, manifest

KINDS = (NMNIST, DVSCIFAR10, NCaltech101)
PUBLISHED = {k: (k.numbers, k.per_class) for k in KINDS}


@pytest.fixture(autouse=True)
def numbers_put_back():
    "`small` makes a small set count as whole, for one test."
    yield
    for k, (numbers, per_class) in PUBLISHED.items(): k.numbers, k.per_class = numbers, per_class


def made(seed, n=200, sensor=(34, 34), span=300_000):
    "Events at random, in the order of time."
    rng = np.random.default_rng(seed)
    return {'t': np.sort(rng.integers(0, span, n)), 'x': rng.integers(0, sensor[1], n),
            'y': rng.integers(0, sensor[0], n), 'p': rng.integers(0, 2, n)}

def as_bin(e):
    return b''.join(bytes([x, y, p << 7 | t >> 16, t >> 8 & 255, t & 255])
                    for t, x, y, p in zip(*(e[k].tolist() for k in 'txyp')))

def as_aedat(e, header=b'#!AER-DAT2.0\r\n# made by a test\r\n'):
    words = np.stack([(127 - e['y'] << 1) | (127 - e['x'] << 8) | (1 - e['p']), e['t']], 1)
    return header + words.astype('>u4').tobytes()

def same(a, b): return all(np.array_equal(a[k], b[k]) for k in 'txyp')

def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def small(kind, root, per_class=10, order=None, whole=True):
    """A small set of this kind in its official layout, which counts as whole unless told otherwise;
    files are written in the given order."""
    files = {}
    if whole: kind.numbers, kind.per_class = (kind.count * per_class,), kind.per_class and per_class
    if kind is NMNIST:
        for c in range(10):
            for i in range(per_class):
                files[f'N-MNIST/{"Train" if i < per_class * .7 else "Test"}/{c}/{i:05}.bin'] = (
                    as_bin(made(100 * c + i)))
    elif kind is DVSCIFAR10:
        for c, name in enumerate(cifar10_dvs.CIFAR10DVS_CLASS_NAMES):
            for i in range(per_class):
                files[f'CIFAR10-DVS/{name}/cifar10_{name}_{i}.aedat'] = as_aedat(
                    made(100 * c + i, sensor=(128, 128)))
    else:
        names = ['BACKGROUND_Google', 'Faces', 'Faces_easy', 'accordion',
                 *(f'thing_{i:02}' for i in range(98))]
        for c, name in enumerate(names):
            for i in range(per_class):
                e = made(100 * c + i, 50, (20 + i, 30))
                files[f'N-Caltech101/Caltech101/{name}/image_{i + 1:04}.bin'] = as_bin(
                    e | {'x': e['x'] + 7, 'y': e['y'] + 3})
    for f in order(files) if order else files: put(root/f, files[f])
    return root


# Reading

def test_bin_round_trip(tmp_path):
    e = made(0, 5000, (240, 256), 2 ** 23)
    e['y'] %= 240
    path = put(tmp_path/'a.bin', as_bin(e))
    assert same(read_bin(path), e) and same(load_ATIS_bin(path), e)
    assert all(v.dtype == np.int64 for v in read_bin(path).values())

def test_aedat_round_trip(tmp_path):
    e = made(1, 5000, (128, 128), 2 ** 32)
    for header in (b'#!AER-DAT2.0\r\n', b'#!AER-DAT2.0\n' + b'# a line\r\n' * 40):
        path = put(tmp_path/'a.aedat', as_aedat(e, header))
        assert same(read_aedat(path), e) and same(cifar10_dvs._load_origin_data(path), e)
    # bytes that a careless reader takes for text: '#' and line ends
    first = made(2, 3, (128, 128)) | {'y': np.array([92, 1, 2])}
    assert same(read_aedat(put(tmp_path/'b.aedat',
                               as_aedat(first | {'t': np.array([0x0a, 0x0a23, 0x0a230a])}))),
                first | {'t': np.array([0x0a, 0x0a23, 0x0a230a])})

def test_overflow_notes_advance_the_clock(tmp_path):
    e = {'t': np.array([3, 0, 9, 0, 1, 4]), 'x': np.arange(6),
         'y': np.array([1, 240, 2, 240, 240, 3]), 'p': np.ones(6, int)}
    got = read_bin(put(tmp_path/'a.bin', as_bin(e)))
    assert got['t'].tolist() == [3, 9 + 8192, 4 + 3 * 8192] and got['x'].tolist() == [0, 2, 5]

def bs3(path):
    "Events of a clip of 56-bit events: 12 bits x, 12 y, 8 polarity, 24 time in µs."
    b = np.fromfile(path, np.uint8).reshape(-1, 7).astype(np.int64).T
    return {'t': b[4] << 16 | b[5] << 8 | b[6], 'x': b[0] << 4 | b[1] >> 4,
            'y': (b[1] & 15) << 8 | b[2], 'p': b[3]}

def test_real_clips_of_128_pixels_pass_through_aedat(real, tmp_path):
    clips = sorted((real('events')/'event_fixtures'/'dvs_gesture_bs3').glob('*.bs3'))
    assert len(clips) == 10
    for clip in clips:
        e, path = bs3(clip), tmp_path/f'{clip.stem}.aedat'
        path.write_bytes(as_aedat(e))
        got, sensor = DVSCIFAR10().events(path)
        assert (same(got, e) and same(got, cifar10_dvs._load_origin_data(path)) and
                60_000 < len(got['t']) < 190_000)
        for split_by in ('time', 'number'):
            ours = frames(got, 10, sensor, split_by)
            assert np.array_equal(
                ours.numpy(), integrate_events_by_fixed_frames_number(e, split_by, 10, 128, 128))
            ready = DVSCIFAR10(split_by=split_by).clip(path, 10)
            assert torch.equal(ready, torch.nn.functional.interpolate(
                ours, (48, 48), mode='bilinear', align_corners=True))

def test_real_sample_files(real):
    root = real('events')/'event_fixtures'
    e = read_bin(root/'sample_nmnist.bin')
    assert len(e['t']) == 4325 and same(e, load_ATIS_bin(root/'sample_nmnist.bin'))
    assert check_events(e, (34, 34), 'sample') is e
    header_only = read_aedat(root/'sample_aedat_header.aedat')
    assert len(header_only['t']) == 0
    with pytest.raises(UserError, match='no events'):
        check_events(header_only, (128, 128), 'sample')


good = made(3, 50)

@pytest.mark.parametrize('name, content, words', [
    ('a.bin', b'', 'the file is empty'),
    ('a.bin', as_bin(good)[:-1], '249 bytes are not a multiple of 5'),
    ('a.bin', as_bin(good | {'x': good['x'] + 9}), 'x runs from'),
    ('a.bin', as_bin(good | {'y': np.full(50, 34)}),
     'y runs from 34 to 34, outside the sensor .0–33'),
    ('a.bin', as_bin(good | {'x': np.full(50, 255)}),
     'x runs from 255 to 255, outside the sensor .0–33'),
    ('a.bin', as_bin(good | {'y': np.full(50, 239)}),
     'y runs from 239 to 239, outside the sensor .0–33'),
    ('caltech.bin', as_bin(good | {'x': np.full(50, 240)}),
     'x runs from 240 to 240, outside the sensor .0–239'),
    ('caltech.bin', as_bin(good | {'y': np.full(50, 180)}),
     'y runs from 180 to 180, outside the sensor .0–179'),
    ('a.bin', as_bin(good | {'t': good['t'][::-1]}), 'time runs backwards at event 1 · 49 such'),
    ('a.bin', as_bin(good | {'y': np.full(50, 240)}), 'no events'),
    ('a.bin', as_bin(good | {'t': np.full(50, 7)}), '2 frames of a recording of 0 µs'),
    ('a.aedat', b'', 'the file is empty'),
    ('a.aedat', as_aedat(good)[:-1], '399 bytes of events are not a multiple of 8'),
    ('a.aedat', as_aedat(good)[:-4], '396 bytes of events are not a multiple of 8'),
    ('a.aedat', as_aedat(good)[:-8] + bytes([0, 0, 128, 4, 0, 4, 0, 0]),
     'event 49 has the address 0x8004, outside the 128×128 pixels · 1 such'),
    ('a.aedat', as_aedat(good)[:-16] + bytes([128, 0, 0, 4, 0, 4, 0, 0] * 2),
     'event 48 has the address 0x80000004, outside .* · 2 such'),
    ('a.aedat', as_aedat(good)[:-8] + bytes([0, 1, 0, 4, 0, 4, 0, 0]),
     'event 49 has the address 0x10004'),   # x or y beyond 127
    ('a.aedat', as_aedat(good, b''), 'not AEDAT 2.0'),
    ('a.aedat', as_aedat(good, b'#!AER-DAT4.0\r\n'),
     "not AEDAT 2.0: it starts with b'#!AER-DAT4.0'"),
    ('a.aedat', b'#!AER-DAT2.0\r\n', 'no events'),
    ('a.aedat', b'#!AER-DAT2.0', 'no events'),
    ('a.aedat', as_aedat(good | {'t': good['t'][::-1]}), 'time runs backwards')])
def test_bad_files(tmp_path, name, content, words):
    path = put(tmp_path/name, content)
    kind = {'a.aedat': DVSCIFAR10, 'caltech.bin': NCaltech101, 'a.bin': NMNIST}[name]
    with pytest.raises(UserError, match=words) as e: kind().clip(path, 2)
    assert e.value.where == str(path) and e.value.remedy and '\n' not in str(e.value)

def wrapped(e, bits, before):
    """The events with the clock at its end `before` µs after the first, and as such a clock writes
    them."""
    on = e | {'t': e['t'] - e['t'][0] + 2 ** bits - before}
    return on, on | {'t': on['t'] % 2 ** bits}

@pytest.mark.parametrize('before', [1, 100_000, 299_000])
def test_a_clock_that_starts_anew_is_wound_on(tmp_path, before):
    "It was refused, and sorted with the advice that was given its end came first."
    on, as_written = wrapped(made(5, 500), 23, before)
    path = put(tmp_path/'a.bin', as_bin(as_written))
    assert same(read_bin(path), on) and not same(load_ATIS_bin(path), on)
    for reorder in (False, True):
        assert torch.equal(NMNIST(reorder=reorder).clip(path, 5),
                           resized(frames(on, 5, (34, 34)), 48))
    on, as_written = wrapped(made(6, 500, (128, 128)), 32, before)
    assert same(read_aedat(put(tmp_path/'a.aedat', as_aedat(as_written))), on)

def test_a_clock_may_start_anew_more_than_once(tmp_path):
    t = np.arange(0, 3 * 2 ** 23, 100_003)
    e = made(0, len(t)) | {'t': t}
    assert same(read_bin(put(tmp_path/'a.bin', as_bin(e | {'t': t % 2 ** 23}))), e)

@pytest.mark.parametrize('reorder', [False, True])
def test_one_damaged_time_is_no_new_start(tmp_path, reorder):
    e = made(5, 500)
    e['t'][250] = 2 ** 23 - 1
    with pytest.raises(UserError, match='time falls from 8388607 to [0-9]+ µs at event 251, .* 23 '
                                        'bits .* 1 such') as error:
        NMNIST(reorder=reorder).clip(put(tmp_path/'a.bin', as_bin(e)), 5)
    assert 'reorder' not in error.value.remedy

def test_jitter_beside_a_new_start_is_still_told(tmp_path):
    on, as_written = wrapped(made(5, 500), 23, 100_000)
    order = np.r_[np.arange(400), 401, 400, np.arange(402, 500)]
    path = put(tmp_path/'a.bin', as_bin({k: v[order] for k, v in as_written.items()}))
    with pytest.raises(UserError, match='time runs backwards at event 401 · 1 such') as error:
        NMNIST().clip(path, 5)
    assert 'reorder=true' in error.value.remedy
    assert torch.equal(NMNIST(reorder=True).clip(path, 5), resized(frames(on, 5, (34, 34)), 48))

@pytest.mark.parametrize('header', ['# von René\r\n'.encode('latin-1'), b'# \xff\xfe\x00\r\n',
                                    b'#' * 5000 + b'\n', '# café\n'.encode()])
def test_a_header_in_any_encoding_is_passed_over(tmp_path, header):
    e = made(1, 500, (128, 128))
    assert same(read_aedat(put(tmp_path/'a.aedat', as_aedat(e, b'#!AER-DAT2.0\r\n' + header))), e)

@pytest.mark.parametrize('n, span', [(1, 9), (5, 1)])
def test_one_frame_holds_all_be_it_one_event(tmp_path, n, span):
    e = made(0, n, span=span)
    for split_by in ('time', 'number'):
        assert (frames(e, 1, (34, 34), split_by).sum() == n and NMNIST(split_by=split_by)
                .clip(put(tmp_path/'a.bin', as_bin(e)), 1).shape == (1, 2, 48, 48))

@pytest.mark.parametrize('read', [read_bin, read_aedat])
def test_a_pipe_is_no_recording(tmp_path, read):
    os.mkfifo(tmp_path/'a')
    with pytest.raises(UserError, match='not a file'): read(tmp_path/'a')

@pytest.mark.parametrize('read', [read_bin, read_aedat])
def test_missing_file(tmp_path, read):
    with pytest.raises(UserError, match='no such file'): read(tmp_path/'none')
    with pytest.raises(UserError): read(tmp_path)

def test_reorder_sorts_and_keeps_the_order_of_one_time(tmp_path):
    e = {'t': np.array([5, 3, 5, 3]), 'x': np.arange(4), 'y': np.zeros(4, int),
         'p': np.ones(4, int)}
    got = check_events(e, (1, 4), 'here', reorder=True)
    assert got['t'].tolist() == [3, 3, 5, 5] and got['x'].tolist() == [1, 3, 0, 2]
    path = put(tmp_path/'a.bin', as_bin(good | {'t': good['t'][::-1]}))
    assert NMNIST(reorder=True).clip(path, 4).sum() > 0


# Frames

def brute(e, T, H, W, split_by):
    out, n, first, last = (np.zeros((T, 2, H, W), np.float32), len(e['t']), int(e['t'][0]),
                           int(e['t'][-1]))
    for i, (t, x, y, p) in enumerate(zip(*(e[k].tolist() for k in 'txyp'))):
        match split_by:
            case 'number': part = i // (n // T)
            case 'time': part = (t - first) // ((last - first) // T)
            case 'official': part = (t - first) // (last // T)
        if split_by != 'official': part = min(part, T - 1)
        if part < T: out[part, p, y, x] += 1
    return torch.from_numpy(out)

@pytest.mark.parametrize('split_by', ['time', 'number'])
@pytest.mark.parametrize('T', [1, 2, 7, 10])
def test_frames_agree_with_a_loop_and_with_spikingjelly(split_by, T):
    for seed, n, span in ((0, 999, 300_000), (1, 77, 101), (2, 4000, 50)):
        e = made(seed, n, (9, 11), span)
        got = frames(e, T, (9, 11), split_by)
        assert got.dtype == torch.float32 and got.sum() == n
        assert torch.equal(got, brute(e, T, 9, 11, split_by))
        assert np.array_equal(got.numpy(),
                              integrate_events_by_fixed_frames_number(e, split_by, T, 9, 11))

def test_an_empty_window_is_an_empty_frame():
    "SpikingJelly 2.0 stops with an IndexError here; so would a recording with a pause."
    e = made(0, 20, (4, 4), 10)
    e = {k: np.r_[v, v] for k, v in e.items()} | {'t': np.r_[e['t'], e['t'] + 1000]}
    got = frames(e, 5, (4, 4)).sum((1, 2, 3))
    assert got[0] == got[4] == 20 and got[1:4].sum() == 0
    with pytest.raises(IndexError): integrate_events_by_fixed_frames_number(e, 'time', 5, 4, 4)

@pytest.mark.parametrize('T', [1, 2, 7, 10])
@pytest.mark.parametrize('late', [0, 3, 5000, 400_000])
def test_the_official_frames_are_those_of_a_loop(T, late):
    """BrainCog's copy of tonic, from before tonic's change of 2022-06-20, divides the time of the
    last event by T, not the duration."""
    for seed, n, span in ((0, 999, 300_000), (1, 77, 101), (2, 4000, 50)):
        e = made(seed, n, (9, 11), span)
        e['t'] = e['t'] - e['t'][0] + late
        got, plain = (frames(e, T, (9, 11), s) for s in ('official', 'time'))
        assert torch.equal(got, brute(e, T, 9, 11, 'official')) and got.sum() <= n
        # the last event at least is lost
        if late == 0:
            assert torch.equal(got[:-1], plain[:-1]) and 1 <= plain[-1].sum() - got[-1].sum()
        if late > T: assert got.sum() == n
        # the window is longer than the recording
        if late == 400_000 and T > 1: assert not got[-1].any() and plain[-1].any()

def test_official_frames_are_made_in_a_folder_of_their_own(tmp_path):
    small(NMNIST, tmp_path)
    direct = NMNIST(split_by='official').load(tmp_path, 0, 4)
    assert NMNIST(split_by='official').prepare(tmp_path, 4).name == 'NMNIST-T4-48-official'
    ready = NMNIST(split_by='official').load(tmp_path, 0, 4)
    assert torch.equal(ready.train.batch(torch.arange(70))[0], direct.train.x.transpose(0, 1))
    assert not torch.equal(NMNIST().load(tmp_path, 0, 4).train.x, direct.train.x)

def test_where_windows_of_equal_duration_end():
    """Upstream tonic's windows of equal duration (since June 2022) leave out what comes after T of
    them; here it is in the last frame."""
    for seed in range(5):
        e = made(seed, 500, (5, 5), 5000)
        w = (e['t'][-1] - e['t'][0]) // 7
        inside = e['t'] < e['t'][0] + 7 * w
        assert 1 <= (~inside).sum() < len(inside) and (e['t'][~inside] > e['t'][-1] - 7).all()
        official = brute({k: v[inside] for k, v in e.items()} |
                         {'t': np.minimum((e['t'][inside] - e['t'][0]) // w, 6)}, 1, 5, 5, 'number')
        ours = frames(e, 7, (5, 5))
        assert ours.sum() - official.sum() == (~inside).sum()
        starts = np.searchsorted(e['t'], e['t'][0] + np.arange(8) * w)
        for i in range(6): assert ours[i].sum() == starts[i + 1] - starts[i]

@pytest.mark.parametrize('split_by, n, span, T',
                         [('number', 5, 1000, 6), ('time', 500, 9, 9), ('time', 1, 9, 2),
                          ('number', 5, 10, 0), ('time', 5, 10, -1), ('official', 500, 9, 9),
                          ('official', 5, 10, 0)])
def test_too_many_frames(split_by, n, span, T):
    e = made(0, n, (3, 3), span)
    with pytest.raises(UserError, match=f'{T} frames') as error: cut(e['t'], T, split_by, 'here')
    assert error.value.where == 'here' and error.value.remedy

def test_cut_takes_the_finest_possible():
    t = np.array([0, 4, 10])
    assert (cut(t, 10).tolist() == [0, 1, 1, 1, 1, 2, 2, 2, 2, 2, 3] and
            cut(t, 3, 'number').tolist() == [0, 1, 2, 3])

def test_resize():
    x = torch.rand(3, 2, 34, 20)
    y = resized(x, 48)
    assert y.shape == (3, 2, 48, 48)
    for i, j in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        assert torch.allclose(y[..., i, j], x[..., i, j])
    assert (torch.equal(resized(torch.ones(1, 2, 1, 1), 4), torch.ones(1, 2, 4, 4)) and
            torch.equal(resized(y, 48), y))


# Sets

@pytest.mark.parametrize('spec',
                         [NMNIST(split='random', train=800, test=300),
                          DVSCIFAR10(split_by='number', reorder=True), NCaltech101(train_share=.8)])
def test_settings_survive_json(spec): assert Spec.from_dict(spec.to_dict()) == spec

@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('fields', [dict(train_share=0.), dict(train_share=1.), dict(valid=-1),
                                    dict(size=0), dict(train=0), dict(test=0)])
def test_values_refused(kind, fields):
    with pytest.raises(UserError) as e: kind(**fields)
    assert e.value.where == kind.__name__ and e.value.remedy

def test_splits_known_by_each_set():
    with pytest.raises(UserError, match='official'):
        Spec.from_dict(DVSCIFAR10().to_dict() | {'split': 'official'})
    with pytest.raises(UserError, match='first'):
        Spec.from_dict(NMNIST().to_dict() | {'split': 'first'})

@pytest.mark.parametrize('kind, library',
                         [(NMNIST, n_mnist.NMNIST), (DVSCIFAR10, cifar10_dvs.CIFAR10DVS),
                          (NCaltech101, n_caltech101.NCaltech101)])
def test_checksums_are_those_of_spikingjelly(kind, library):
    known = {name: (url, md5) for name, url, md5 in library.resource_url_md5()}
    for a in kind.about.archives:
        assert known[a.name][1] == a.md5 and (not a.urls or a.urls == (known[a.name][0],))
    assert kind.sensor == library.get_H_W() and kind.still is False

@pytest.mark.parametrize('kind', KINDS)
def test_shapes_labels_and_manifest(kind, tmp_path):
    data, n = kind(), 10 if kind is not NCaltech101 else 5
    split = data.load(small(kind, tmp_path, n), 0, 5)
    check_split(split, 'test')
    assert (len(split.classes) == kind.count and list(split.classes) == sorted(split.classes) and
            'Faces' not in split.classes)
    assert split.train.x.shape[1:] == (5, 2, 48, 48) and len(split.valid) == 0
    for part in split[:3]:
        for name, y in zip(part.names, part.y.tolist()):
            assert name.split('/')[-2] == split.classes[y]
    lines = manifest(split).splitlines()
    assert len(lines) == len(split.train) + len(split.test) == kind.count * n
    part, label, name = lines[-1].split('\t')
    assert part == 'test' and (data.home(tmp_path)/name).is_file() and label in split.classes

def test_caltech_recordings_have_their_own_sensor(tmp_path):
    e = made(0, 300, (20, 30)) | {}
    path = put(tmp_path/'a.bin', as_bin(e | {'x': e['x'] + 100, 'y': e['y'] + 50}))
    got, sensor = NCaltech101().events(path)
    assert (same(got, e | {'x': e['x'] - e['x'].min(), 'y': e['y'] - e['y'].min()}) and
            sensor == (got['y'].max() + 1, got['x'].max() + 1))
    assert torch.equal(NCaltech101(size=16).clip(path, 3), resized(frames(got, 3, sensor), 16))
    assert NCaltech101().clip(put(tmp_path/'dot.bin', as_bin(
        e | {'x': e['x'] * 0 + 5, 'y': e['y'] * 0 + 5})), 3).shape == (3, 2, 48, 48)

@pytest.mark.parametrize('kind', KINDS[:2])
def test_lists_and_splits_know_nothing_of_the_disk(kind, tmp_path, monkeypatch):
    data = (kind(), replace(kind(), split='random'),
            replace(kind(), split='random', train_share=.5, train=30, valid=10, test=20))
    one = small(kind, tmp_path/'one', order=lambda f: sorted(f))
    two = small(kind, tmp_path/'two', order=lambda f: random.Random(1).sample(sorted(f), len(f)))
    for seed in (0, 1):
        for d in data: assert manifest(d.load(one, seed, 1)) == manifest(d.load(two, seed, 1))
    glob = Path.glob
    monkeypatch.setattr(Path, 'glob', lambda self, pattern: iter(list(glob(self, pattern))[::-1]))
    assert [manifest(d.load(one, 0, 1)) for d in data] == [manifest(d.load(two, 0, 1))
                                                           for d in data]

def test_names_are_sorted_by_their_numbers(tmp_path):
    names = ['b_10.bin', 'b_9.bin', 'b_010.bin', 'a.bin', '7.bin', 'b.bin', 'B_1.bin']
    assert (sorted(names, key=natural) == sorted(names[::-1], key=natural) ==
            ['7.bin', 'B_1.bin', 'a.bin', 'b.bin', 'b_9.bin', 'b_010.bin', 'b_10.bin'])
    for f in ('ant/1.bin', 'ant/.hidden.bin', 'ant/notes.txt', '.cache/1.bin', 'readme.bin',
              'bee/x/1.bin'):
        put(tmp_path/f, b'?')
    assert list_recordings(tmp_path, ('.',), '.bin') == (('ant/1.bin',), (0,), ('ant',), (1,))


def names(split): return [set(p.names) for p in split[:3]]

@pytest.mark.parametrize('kind, fields', [(DVSCIFAR10, {}), (DVSCIFAR10, dict(split='random')),
                                          (NMNIST, {}), (NMNIST, dict(split='random'))])
def test_parts_do_not_overlap_and_use_all(kind, fields, tmp_path):
    small(kind, tmp_path)
    for seed in (0, 1):
        train, valid, test = names(kind(**fields).load(tmp_path, seed, 1))
        assert not valid and not train & test and len(train | test) == 100
        train, valid, test = names(
            kind(**fields, train=40, valid=20, test=10).load(tmp_path, seed, 1))
        assert (list(map(len, (train, valid, test))) == [40, 20, 10] and
                len(train | valid | test) == 70)
    few, more = (names(kind(**fields, train=n).load(tmp_path, 0, 1)) for n in (20, 50))
    assert few[0] < more[0] and few[2] == more[2]

def test_first_takes_the_first_by_number(tmp_path):
    train, _, test = names(DVSCIFAR10(train_share=.8).load(small(DVSCIFAR10, tmp_path, 11), 3, 1))
    # round(0.8 · 11) = 9 train
    assert {n for n in test if 'cat' in n} == {'cat/cifar10_cat_9.aedat',
                                               'cat/cifar10_cat_10.aedat'}

@pytest.mark.parametrize('split', ['first', 'random'])
def test_the_share_of_a_class_is_rounded_as_the_official_code_does(split):
    """N-Caltech101's classes differ in size; Python's round takes a half to the even number: 0.9 ·
    5 to 4, 0.9 · 15 to 14, 0.9 · 25 to 22."""
    for share in (.9, .5, .75):
        sizes = list(range(2, 41)) if share < .9 else list(range(5, 41))
        labels = tuple(c for c, n in enumerate(sizes) for _ in range(n))
        found = recordings.Found(tuple(f'{c}/{i}.bin' for i, c in enumerate(labels)), labels,
                                 tuple(map(str, range(len(sizes)))), labels)
        train, _, test = recordings.divide(found, 0, NCaltech101(split=split, train_share=share))
        assert (np.bincount(np.array(labels)[train]).tolist() ==
                [round(share * n) for n in sizes] and len(train) + len(test) == len(labels))

def test_official_keeps_to_the_folders(tmp_path):
    train, _, test = names(NMNIST().load(small(NMNIST, tmp_path), 5, 1))
    assert ({n.split('/')[0] for n in train} == {'Train'} and
            {n.split('/')[0] for n in test} == {'Test'})
    one, two = (names(NMNIST(split='random').load(tmp_path, s, 1)) for s in (0, 1))
    assert (one != two and one == names(NMNIST(split='random').load(tmp_path, 0, 1)) and
            {n.split('/')[0] for n in one[0]} == {'Train', 'Test'})

@pytest.mark.parametrize('fields',
                         [dict(train=71), dict(test=31), dict(valid=70), dict(valid=71),
                          dict(split='random', train=91), dict(split='random', test=101),
                          dict(split='random', train=90, test=11), dict(split='random', valid=90)])
def test_too_many_asked_for(fields, tmp_path):
    small(NMNIST, tmp_path)
    with pytest.raises(UserError, match='needed') as e: NMNIST(**fields).load(tmp_path, 0, 1)
    assert e.value.where == 'NMNIST' and e.value.remedy

def test_missing_sets_and_classes(tmp_path):
    for kind in KINDS:
        with pytest.raises(UserError, match='read from files'): kind().load(None, 0, 4)
        with pytest.raises(UserError, match=f'no {kind.about.title} here'):
            kind().load(tmp_path, 0, 4)
    put(small(DVSCIFAR10, tmp_path, 1)/'CIFAR10-DVS/zebra/1.aedat', as_aedat(made(0)))
    with pytest.raises(UserError, match='11 classes with .aedat files instead of 10 · fewest: '
                                        'airplane 1, .*zebra 1'):
        DVSCIFAR10().load(tmp_path, 0, 4)
    put(small(NCaltech101, tmp_path, 2)/'N-Caltech101/Caltech101/@eaDir/x.bin', as_bin(made(0)))
    with pytest.raises(UserError, match='102 classes .* fewest: @eaDir 1, '):
        NCaltech101().load(tmp_path, 0, 4)
    shutil.rmtree(tmp_path/'CIFAR10-DVS/zebra'), shutil.rmtree(tmp_path/'CIFAR10-DVS/cat')
    with pytest.raises(UserError, match='9 classes with .aedat files instead of 10'):
        DVSCIFAR10().load(tmp_path, 0, 4)
    shutil.rmtree(small(NMNIST, tmp_path)/'N-MNIST/Test')
    with pytest.raises(UserError, match='0 recordings for test'): NMNIST().load(tmp_path, 0, 4)

def of_command(remedy):
    "Kind, root, T and changes of the command in a remedy."
    *_, name, _, root, _, T = (
        (words := shlex.split(remedy[remedy.index('snn-repro data prepare'):]))[:8])
    assert set(words[8::2]) <= {'--set'}
    return name, root, int(T), words[9::2]

@pytest.mark.parametrize('data', [NMNIST(), NMNIST(split_by='number', size=32, train=50,
                                                   split='random', train_share=.5, reorder=True)])
def test_too_much_to_be_read_at_once_names_the_command(data, tmp_path, monkeypatch):
    root = small(NMNIST, tmp_path/'my data')
    monkeypatch.setattr(recordings, '_MOST', 10 ** 6)
    with pytest.raises(UserError, match='GB of frames') as e: data.load(root, 0, 4)
    name, at, T, changes = of_command(e.value.remedy)
    assert (name, at, T) == ('NMNIST', str(root), 4) and edits(NMNIST(), changes) == data
    edits(NMNIST(), changes).prepare(Path(at), T)
    assert isinstance(data.load(root, 0, 4).train, Clips)

def test_a_gigabyte_is_the_most_that_is_read_directly(): assert recordings._MOST == 2 ** 30

@pytest.mark.parametrize('T', [0, -3])
def test_less_than_one_frame(T, tmp_path):
    small(NMNIST, tmp_path)
    for act in (lambda: NMNIST().load(tmp_path, 0, T), lambda: NMNIST().prepare(tmp_path, T)):
        with pytest.raises(UserError, match=f'{T} frames') as e: act()
        assert e.value.remedy == 'choose 1 or more'
    assert not (tmp_path/'prepared').exists()


# A part of a set

def test_numbers_are_the_published_ones():
    assert PUBLISHED == {NMNIST: ((60_000, 10_000), None), DVSCIFAR10: ((10_000,), 1000),
                         NCaltech101: ((8709,), None)}

@pytest.mark.parametrize('kind, words',
                         [(DVSCIFAR10, '30 of 10,000 recordings; airplane has 3 of 1,000'),
                          (NCaltech101, '303 of 8,709 recordings')])
def test_a_part_of_a_set_is_no_set(kind, words, tmp_path):
    small(kind, tmp_path, 3, whole=False)
    home = kind().home(tmp_path)
    for act in (lambda: kind().load(tmp_path, 0, 2),
                lambda: kind(valid=10, split='random').load(tmp_path, 0, 2),
                lambda: kind().prepare(tmp_path, 2)):
        with pytest.raises(UserError, match=words) as e: act()
        assert (e.value.where == str(home) and e.value.remedy == f'remove {home}, then: snn-repro '
                f'data prepare {kind.__name__} --root {tmp_path}')
    asked = kind(train_share=.7, test=kind.count)
    assert (len(asked.load(tmp_path, 0, 2).test) == kind.count ==
            len(kind(train_share=.7, train=kind.count).load(tmp_path, 0, 2).train))
    folder = asked.prepare(tmp_path, 2)
    assert len(asked.load(tmp_path, 0, 2).test) == kind.count
    shutil.rmtree(home)   # and frames of a part do not count as those of a set either
    for act in (lambda: kind().load(tmp_path, 0, 2), lambda: kind().prepare(tmp_path, 2)):
        with pytest.raises(UserError, match=words) as e: act()
        assert e.value.where == str(folder) and f'remove {folder}' in e.value.remedy
    assert len(asked.load(tmp_path, 0, 2).test) == kind.count

def test_one_recording_more_or_less_is_told(tmp_path):
    home = small(DVSCIFAR10, tmp_path, 3)/'CIFAR10-DVS'
    DVSCIFAR10(train_share=.7).load(tmp_path, 0, 1)
    (home/'cat/cifar10_cat_0.aedat').rename(home/'dog/cifar10_dog_99.aedat')   # the sum is right
    with pytest.raises(UserError, match='30 of 30 recordings; cat has 2 of 3'):
        DVSCIFAR10(train_share=.7).load(tmp_path, 0, 1)
    (home/'dog/cifar10_dog_99.aedat').unlink()
    with pytest.raises(UserError, match='29 of 30 recordings; cat has 2 of 3'):
        DVSCIFAR10(train_share=.7).load(tmp_path, 0, 1)

def test_the_folder_of_everything_is_not_to_be_removed(tmp_path):
    small(DVSCIFAR10, tmp_path, 1, whole=False)
    with pytest.raises(UserError, match='10 of 10,000') as e:
        DVSCIFAR10().load(tmp_path/'CIFAR10-DVS', 0, 1)
    assert 'remove its folders' in e.value.remedy

def test_a_part_of_nmnist_has_its_own_division(tmp_path):
    small(NMNIST, tmp_path, whole=False)
    assert len(NMNIST().load(tmp_path, 0, 2).train) == 70 and 'nmnist_small' not in NMNIST.folders


# Prepared frames

def stop_after(monkeypatch, n, error=KeyboardInterrupt):
    "Let the `n`-th chunk be the last that is written."
    seen, write = [], recordings.write
    def stopping(path, content):
        if len(seen) == n: raise error
        seen.append(path)
        return write(path, content)
    monkeypatch.setattr(recordings, 'write', stopping)
    return seen

@pytest.mark.parametrize('data', [NMNIST(split='random', train=40, valid=10, test=20),
                                  DVSCIFAR10(split_by='number', size=20), NCaltech101(valid=101)])
def test_prepared_equals_direct(data, tmp_path):
    small(type(data), tmp_path, 10 if not isinstance(data, NCaltech101) else 5)
    direct = data.load(tmp_path, 1, 4)
    folder = data.prepare(tmp_path, 4)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        ready = data.load(tmp_path, 1, 4)
    assert manifest(ready) == manifest(direct) and ready.classes == direct.classes
    for a, b in zip(ready[:3], direct[:3]):
        assert (isinstance(a, Clips) and a.shape == b.shape == (2, data.size, data.size) and
                torch.equal(a.y, b.y) and len(a) == len(b))
        index = torch.randperm(len(a), generator=torch.Generator().manual_seed(0))[:9]
        for corner in (None, lambda n, h, w: (n, 0, h - 9, w - 5))[:1 + bool(len(a))]:
            x, y = a.batch(index, corner)
            assert (torch.equal(x, b.batch(index, corner)[0]) and torch.equal(y, b.y[index]) and
                    x.dtype == torch.float32)
        x.zero_()
    assert (data.prepare(tmp_path, 4) == folder and
            manifest(data.load(tmp_path, 1, 4)) == manifest(direct))
    shutil.rmtree(data.home(tmp_path))   # the recordings are not needed any more
    assert manifest(data.load(tmp_path, 1, 4)) == manifest(direct)

def bytes_of(source): return b''.join(v.tobytes() for v in source.values())

def test_what_stands_for_prepared_clips(tmp_path, monkeypatch):
    """The hash of a run changes with the clips, with those chosen and with their labels; no clip is
    read for it."""
    data = NMNIST(split='random', train=40, test=20)
    small(NMNIST, tmp_path/'a')
    shutil.copytree(tmp_path/'a', tmp_path/'b')
    other = tmp_path/'b/N-MNIST/Train/3/00002.bin'
    other.write_bytes(as_bin(made(302) | {'p': np.ones(200, int)}))         # as large as before
    for root in ('a', 'b'): data.prepare(tmp_path/root, 3)
    one, same_again, other_seed, changed = (data.load(tmp_path/r, s, 3)
                                            for r, s in (('a', 0), ('a', 0), ('a', 1), ('b', 0)))
    monkeypatch.setattr(Clips, 'clips', None)
    assert (bytes_of(one.train) == bytes_of(same_again.train) and
            len({bytes_of(s) for s in (one.train, one.test, other_seed.train, changed.train)}) == 4)
    one.train.y[0] += 1
    assert bytes_of(one.train) != bytes_of(same_again.train)

def test_prepared_clips_hold_no_files_open(tmp_path, monkeypatch):
    monkeypatch.setattr(recordings, '_CHUNK', 1)
    small(NMNIST, tmp_path)
    NMNIST(valid=20).prepare(tmp_path, 2)
    used, limits = (max(map(int, os.listdir('/proc/self/fd'))),
                    resource.getrlimit(resource.RLIMIT_NOFILE))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 12, limits[1]))
    try:
        splits = [NMNIST(valid=20).load(tmp_path, 0, 2) for _ in range(3)]
        x = [part.batch(torch.arange(len(part)))[0] for split in splits for part in split[:3]]
    finally: resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert [len(o[0]) for o in x] == [50, 20, 30] * 3 and all(o.sum() > 0 for o in x)

def test_a_chunk_that_goes_away_is_named(tmp_path):
    small(NMNIST, tmp_path)
    folder = NMNIST().prepare(tmp_path, 2)
    split = NMNIST().load(tmp_path, 0, 2)
    (folder/'00001.npy').unlink()
    with pytest.raises(UserError, match='00001.npy'): split.test.batch(torch.arange(30))

def test_preparing_again_starts_where_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(recordings, '_CHUNK', 8)
    small(NMNIST, tmp_path)
    direct, folder = NMNIST().load(tmp_path, 0, 3), recordings.frames_folder(NMNIST(), tmp_path, 3)
    with monkeypatch.context() as m:
        stop_after(m, 5)
        with pytest.raises(KeyboardInterrupt): NMNIST().prepare(tmp_path, 3)
    assert len(list(folder.glob('*.npy'))) == 5 and not (folder/SEAL).exists()
    assert type(NMNIST().load(tmp_path, 0, 3).train) is not Clips   # a half-made folder is not used
    (folder/'00001.npy').write_bytes((folder/'00001.npy').read_bytes()[:-1])
    (folder/'00002.npy').unlink()
    kept = (folder/'00000.npy').stat().st_mtime_ns
    with monkeypatch.context() as m:
        written = stop_after(m, 1000)
        NMNIST().prepare(tmp_path, 3)
    assert ([p.name for p in written] ==
            ['00001.npy', '00002.npy'] + [f'{i:05}.npy' for i in range(5, 13)])
    assert (folder/'00000.npy').stat().st_mtime_ns == kept
    assert torch.equal(NMNIST().load(tmp_path, 0, 3).train.batch(torch.arange(70))[0],
                       direct.train.x.transpose(0, 1))

def test_a_killed_process_leaves_nothing_that_is_believed(tmp_path):
    small(NMNIST, tmp_path, 20)
    code = ('import os, signal, sys; from snn_repro.data import event_sets, recordings as r\n'
            'write = r.write\n'
            'def dying(path, content):\n'
            '    if path.name == "00002.npy":\n'
            '        path.with_name(path.name + ".1.part").write_bytes(content[:1000]); '
            'os.kill(os.getpid(), signal.SIGKILL)\n'
            '    write(path, content)\n'
            'r.write = dying\n'
            'event_sets.NMNIST().prepare(sys.argv[1], 3)\n')
    done = subprocess.run([sys.executable, '-c', code, tmp_path], capture_output=True,
                          env=os.environ | {'OMP_NUM_THREADS': '1'})
    assert done.returncode == -signal.SIGKILL
    folder = recordings.frames_folder(NMNIST(), tmp_path, 3)
    assert (sorted(p.name for p in folder.iterdir()) ==
            ['00000.npy', '00001.npy', '00002.npy.1.part', 'chunks.json', 'recordings.json'])
    direct = NMNIST().load(tmp_path, 0, 3)
    assert NMNIST().prepare(tmp_path, 3) == folder and not list(folder.glob('*.part'))
    assert torch.equal(NMNIST().load(tmp_path, 0, 3).test.batch(torch.arange(60))[0],
                       direct.test.x.transpose(0, 1))

def test_prepared_frames_belong_to_their_recordings(tmp_path, monkeypatch):
    small(NMNIST, tmp_path)
    folder = NMNIST().prepare(tmp_path, 3)
    new = put(tmp_path/'N-MNIST/Train/3/99999.bin', as_bin(made(9)))
    with pytest.raises(UserError, match='made of other recordings') as e:
        NMNIST().load(tmp_path, 0, 3)
    assert e.value.where == str(folder) and 'remove' in e.value.remedy
    new.unlink()
    NMNIST().load(tmp_path, 0, 3)
    chunk = folder/'00001.npy'
    chunk.write_bytes(chunk.read_bytes()[:-1] + b'!')
    for act in (lambda: NMNIST().load(tmp_path, 0, 3), lambda: NMNIST().prepare(tmp_path, 3)):
        with pytest.raises(UserError, match='00001.npy'): act()

@pytest.mark.parametrize('label', ['cat', None, 1.5, 99, float('nan'), [1]])
def test_a_sealed_list_with_a_label_that_is_none(tmp_path, label):
    small(NMNIST, tmp_path)
    folder = NMNIST().prepare(tmp_path, 2)
    listed = recordings.read_json(folder/'recordings.json')
    listed['labels'][3] = label
    recordings.write_json(folder/'recordings.json', listed)
    recordings.seal(folder, recordings._SCHEMA)
    with pytest.raises(UserError, match='label') as e: NMNIST().load(tmp_path, 0, 2)
    assert str(folder/'recordings.json') in e.value.where

def test_a_bad_file_stops_the_preparation_by_name(tmp_path):
    bad = small(NMNIST, tmp_path)/'N-MNIST/Test/9/00009.bin'
    bad.write_bytes(bad.read_bytes()[:-2])
    with pytest.raises(UserError, match='cut short') as e: NMNIST().prepare(tmp_path, 3)
    assert e.value.where == str(bad)

def test_the_folders_name_holds_what_changes_frames(tmp_path):
    kinds = [(d, T) for d in (NMNIST(), NMNIST(size=32), NMNIST(split_by='number'),
                              NMNIST(reorder=True), NCaltech101()) for T in (4, 10)]
    assert len({recordings.frames_folder(d, tmp_path, T) for d, T in kinds}) == 10
    assert recordings.frames_folder(DVSCIFAR10(), tmp_path, 10).name == 'DVSCIFAR10-T10-48-time'
    assert recordings.frames_folder(NMNIST(split='random', train=5, train_share=.4),
                                    tmp_path, 4) == recordings.frames_folder(NMNIST(), tmp_path, 4)


# Real N-MNIST

def test_real_nmnist(real):
    root = real('nmnist')
    split = NMNIST().load(root, 0, 10)
    check_split(split, 'N-MNIST')
    assert (split.train.y.bincount().tolist() == [97, 116, 99, 93, 105, 92, 94, 117, 87, 100] and
            len(split.test) == 100)
    path = root/split.test.names[17]
    e = load_ATIS_bin(path)
    oracle = (
        torch.from_numpy(integrate_events_by_fixed_frames_number(e, 'time', 10, 34, 34)).float())
    assert torch.equal(split.test.x[17],
                       torch.nn.functional.interpolate(oracle, (48, 48), mode='bilinear',
                                                       align_corners=True))
    three = lambda s: torch.stack([f.sum(1) for f in s.x.split((3, 4, 3), 1)], 1)
    features = lambda s: (
        torch.nn.functional.avg_pool2d(three(s).flatten(1, 2), 3).flatten(1).sqrt().double())
    A = features(split.train)
    W = torch.linalg.solve(A.T @ A + 30 * torch.eye(A.shape[1]),
                           A.T @ torch.eye(10).double()[split.train.y])
    # the labels belong to the recordings
    assert ((features(split.test) @ W).argmax(1) == split.test.y).float().mean() > .85

def test_real_nmnist_divided_anew(real):
    data = NMNIST(split='random', train=800, test=300)
    one, two = (data.load(real('nmnist'), seed, 1) for seed in (0, 1))
    assert (len(one.train) == 800 and len(one.test) == 300 and one.test.names != two.test.names and
            not names(one)[0] & names(one)[2])
    # no more than one beside an exact share of each digit
    whole = np.array([105, 130, 107, 104, 119, 99, 104, 132, 89, 111])
    assert (np.abs(one.test.y.bincount().numpy() - whole * 300 / 1100).max() <= 1 and
            np.abs(one.train.y.bincount().numpy() - whole * 800 / 1100).max() <= 1)
