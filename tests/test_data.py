"Draws, data, the event camera, augmentation: what is too dull for a chapter."
import dataclasses, time

import numpy as np
import pytest
import torch

from snn_repro.core.rng import epoch_permutation, named_generator, uniforms
from snn_repro.core.spec import Spec, UserError
from snn_repro.data import source as data
from snn_repro.data.augment import Augment, CropFlip, NoAugment, ShiftNoise
from snn_repro.data.digits import Digits, digit_images, occlude, place_on_canvas, stratified_split
from snn_repro.data.event_camera import (bin_frames, contrast_events, noise_events, saccades,
                                         simulate, threshold_map)
from snn_repro.data.policies import AutoAugmentCutout, RandomResizedCropFlip, Strong
from snn_repro.data.simulated_events import EventDigits, record_clips
from snn_repro.data.source import Data, Source, check_source


def test_draws_never_change():
    "A change of these numbers changes every result: runs could no longer be resumed or repeated."
    assert epoch_permutation(0, 0, 8).tolist() == [1, 0, 4, 6, 7, 2, 3, 5]
    assert ((uniforms(3, 1, torch.tensor([0, 10 ** 6]), 2) * 2 ** 24).int().tolist() ==
            [[10794207, 6484937], [14891815, 3891878]])
    assert named_generator(0, 'digits split').integers(1000, size=4).tolist() == [369, 121, 901, 69]
    train, valid, test = stratified_split(digit_images(8)[1], 20, 1000,
                                          named_generator(0, 'digits split'))
    assert [p[:3].tolist() for p in (train, valid, test)] == [[1494, 1264, 205], [422, 856, 1017],
                                                              [812, 1372, 1469]]

def test_uneven_thresholds_need_a_generator():
    with pytest.raises(UserError, match='no generator for the thresholds .give rng'):
        threshold_map((4, 4))
    assert (threshold_map((4, 4), .25, spread=0.) == .25).all()


def test_draws_take_any_whole_number():
    assert len(epoch_permutation(-1, 2 ** 40, 5)) == 5 and epoch_permutation(0, 0, 0).shape == (0,)
    assert (uniforms(2 ** 62, 0, torch.empty(0, dtype=torch.long), 3).shape == (0, 3) and
            uniforms(0, 0, torch.arange(2), 0).shape == (2, 0))
    u = uniforms(0, 0, torch.arange(10 ** 6), 1)
    assert u.dtype == torch.float32 and 0 <= u.min() and u.max() < 1
    assert named_generator(1, '1').random() != named_generator(11, '').random()


@pytest.mark.parametrize('spec', [Digits(noise=.2, occlusion=3), EventDigits(noise=0.), NoAugment(),
                                  CropFlip(pad=2, flip=False), ShiftNoise(noise=.1)])
def test_settings_survive_json(spec):
    assert (Spec.from_dict(spec.to_dict()) == spec and
            hash(spec) == hash(Spec.from_dict(spec.to_dict())))


def test_abstract_parts_say_so():
    with pytest.raises(NotImplementedError): Data().load(None, 0, 1)
    with pytest.raises(NotImplementedError): Augment()(torch.zeros(1, 1, 2, 2), torch.zeros(1, 0))


def test_batch_is_a_copy():
    for x in (torch.zeros(3, 1, 4, 4), torch.zeros(3, 2, 2, 4, 4, dtype=torch.uint8)):
        source = Source(x, torch.arange(3))
        source.batch(torch.arange(3))[0].add_(1)
        assert source.x.sum() == 0 and len(source) == 3


@pytest.mark.parametrize('shape', [(5, 3, 4, 4), (5, 6, 2, 4, 4)])
def test_samples_stay_where_there_is_no_room(shape, monkeypatch):
    source, index = (Source(torch.zeros(shape, dtype=torch.uint8), torch.arange(5),
                            (1.,)*3, (2.,)*3), torch.tensor([3, 1]))
    assert source.to('cpu') is source
    monkeypatch.setattr(data, 'room', lambda device: source.x.nbytes - 1)
    assert source.to('meta') is source
    monkeypatch.setattr(data, 'room', lambda device: source.x.nbytes)
    moved, (x, y) = source.to('meta'), source.to('meta').batch(index)
    # a device that computes shapes only
    assert (source.x.device.type == moved.y.device.type == 'cpu' and
            moved.x.device.type == x.device.type == 'meta')
    assert (x.shape == source.batch(index)[0].shape and y.tolist() == [3, 1] and
            (moved.mean, moved.std) == (source.mean, source.std))
    files = Source(None, torch.arange(5))
    assert files.to('meta') is files


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
@pytest.mark.parametrize('augment',
                         [CropFlip(), Strong(), AutoAugmentCutout(),
                          RandomResizedCropFlip(jitter=.4)], ids=lambda a: type(a).__name__)
def test_a_batch_is_the_same_on_a_gpu(augment):
    source, index = (Source(torch.randint(0, 256, (50, 3, 32, 32), dtype=torch.uint8),
                            torch.arange(50), (120.,)*3, (60.,)*3), torch.arange(40))
    u = uniforms(0, 0, index, augment.k)
    there, here = source.to('cuda'), source
    assert there.x.device.type == 'cuda' and torch.equal(here.batch(index)[0],
                                                         there.batch(index)[0].cpu())
    x, y = (s.batch(index)[0] for s in (here, there))
    x, y = augment(x, u), augment(y, u)
    assert torch.equal(x, y.cpu())
    torch.testing.assert_close(augment.after(here.ready(x), u),
                               augment.after(there.ready(y), u).cpu(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize('x, y, word', [
    (torch.zeros(3, 1, 2, 2), torch.tensor([0, -1, 2]), 'label -1 at index 1'),
    (torch.zeros(3, 1, 2, 2), torch.tensor([0, 1, 3]), 'label 3 at index 2'),
    (torch.zeros(2, 1, 2, 2), torch.tensor([0, 1, 2]), '2 samples but 3 labels'),
    (torch.zeros(3, 1, 2, 2), torch.tensor([0., 1., 2.]), 'labels are torch.float32'),
    (torch.full((3, 1, 2, 2), float('inf')), torch.tensor([0, 1, 2]), 'sample 0')])
def test_check_source(x, y, word):
    with pytest.raises(UserError, match=word) as e: check_source(Source(x, y), 3, 'here')
    assert str(e.value).startswith('here: ') and e.value.remedy


def test_check_source_accepts_bytes_and_nothing():
    check_source(Source(torch.zeros(2, 3, 2, 4, 4, dtype=torch.uint8), torch.tensor([0, 2])),
                 3, 'clips')
    check_source(Source(torch.zeros(0, 1, 4, 4), torch.zeros(0, dtype=torch.long)), 3, 'nothing')


@pytest.mark.parametrize('kind', [Digits, EventDigits])
@pytest.mark.parametrize('fields', [dict(train_per_class=0), dict(train_per_class=80), dict(test=0),
                                    dict(test=1600), dict(size=7),
                                    dict(size=17), dict(noise=-.1)])
def test_refusals(kind, fields):
    with pytest.raises(UserError) as e: kind(**fields).load(None, 0, 2)
    assert kind.__name__ in e.value.where and e.value.remedy


@pytest.mark.parametrize('fields',
                         [dict(shift=-1), dict(shift=3), dict(occlusion=13), dict(occlusion=-1)])
def test_digits_refuses(fields):
    with pytest.raises(UserError): Digits(**fields)


@pytest.mark.parametrize('fields', [dict(threshold=0.), dict(offset=0.), dict(steps=0),
                                    dict(clip=0), dict(clip=256), dict(amplitude=-1.)])
def test_event_digits_refuses(fields):
    with pytest.raises(UserError): EventDigits(**fields)


@pytest.mark.parametrize('T', [0, 61])
def test_frames_refused(T):
    with pytest.raises(UserError, match=f'{T} frames'): EventDigits().load(None, 0, T)


@pytest.mark.parametrize('n, test', [(1, 1), (20, 1005), (74, 1000), (1, 1700), (17, 1560)])
def test_stratified_split(n, test):
    y = digit_images(8)[1]
    parts = train, valid, tested = stratified_split(y, n, test, named_generator(5, 'x'))
    assert sorted(np.concatenate(parts)) == list(range(1797)) and len(tested) == test
    assert (np.bincount(y[train], minlength=10) == n).all()
    assert np.ptp(np.bincount(y[tested], minlength=10)) <= 1 or test > 1740


@pytest.mark.parametrize('fields', [dict(shift=0, canvas=12), dict(canvas=15),
                                    dict(size=8, canvas=32, shift=12), dict(occlusion=12)])
def test_digits_of_all_sizes(fields):
    data = Digits(**fields)
    split = data.load(None, 1, 4)
    assert (split.test.x.shape == (1000, 1, data.canvas, data.canvas) and
            split.test.x.dtype == torch.float32)
    for part in split[:3]: check_source(part, 10, 'digits')
    if data.occlusion == 12: assert abs(split.test.x.mean()) < .01


def test_place_and_occlude_by_loops():
    rng = np.random.default_rng(0)
    images, moved, corner = (rng.random((5, 4, 4), dtype=np.float32), rng.integers(-2, 3, (5, 2)),
                             rng.integers(0, 6, (5, 2)))
    placed = place_on_canvas(images, 8, moved)
    for i, (r, c) in enumerate(moved + 2):
        slow = np.zeros((8, 8), np.float32); slow[r:r + 4, c:c + 4] = images[i]
        assert (placed[i] == slow).all()
        slow[corner[i, 0]:corner[i, 0] + 3, corner[i, 1]:corner[i, 1] + 3] = 0
        assert (occlude(placed, corner, 3)[i] == slow).all()


def test_cached_digits_are_locked():
    with pytest.raises(ValueError): digit_images(12)[0][0] = 1


def test_simulate_refuses():
    still = np.zeros((3, 1, 4, 4))
    for bad in (dict(frames=still[0]), dict(frames=still[:1]),
                dict(frames=still, noise=.1, threshold_spread=0.), dict(frames=still),
                dict(frames=still, threshold=0., threshold_spread=0.),
                dict(frames=still, offset=-1., threshold_spread=0.)):
        with pytest.raises(UserError): simulate(**bad)


def test_simulate_one_step_and_many_events():
    frames = np.zeros((2, 1, 1, 2)); frames[1, 0, 0, 0] = 1
    e = simulate(frames, .25, 0.)
    assert e[0, 0, 1, 0, 0] == int(np.log(11) / .25) and e.sum() == e[0, 0, 1, 0, 0]
    assert simulate(frames[::-1], .25, 0.)[0, 0, 0, 0, 0] == e[0, 0, 1, 0, 0]


def test_pixels_are_independent():
    rng = np.random.default_rng(0)
    frames, theta = rng.random((20, 3, 4, 5)), rng.uniform(.1, .4, (4, 5))
    whole = contrast_events(frames, theta)
    assert (whole[:, 1:2] == contrast_events(frames[:, 1:2], theta)).all()
    assert (whole[..., 2, 3] ==
            contrast_events(frames[..., 2:3, 3:4], theta[2:3, 3:4])[..., 0, 0]).all()


def test_noise_rate_and_polarity():
    e = noise_events((100, 4, 2, 16, 16), .1, np.random.default_rng(0))
    on, off = e[:, :, 1].mean(), e[:, :, 0].mean()
    assert abs(on - .05) < .003 and abs(off - .05) < .003
    assert noise_events((3, 1, 2, 2, 2), 0., np.random.default_rng(0)).sum() == 0


def test_saccades_of_one_picture_do_not_depend_on_the_others():
    rng = np.random.default_rng(0)
    images, start = rng.random((4, 8, 8), dtype=np.float32), rng.uniform(-1, 1, (4, 2))
    assert np.array_equal(saccades(images, 12, 1., start)[:, 2:3],
                          saccades(images[2:3], 12, 1., start[2:3]))


def test_bins_lose_nothing():
    e = np.random.default_rng(0).integers(0, 4, (17, 2, 2, 3, 3)).astype(np.uint16)
    for T in range(1, 18):
        assert ((bin_frames(e, T).sum(1) == e.sum(0)).all() and
                bin_frames(e, T).shape == (2, T, 2, 3, 3))


def test_recordings_depend_on_the_camera_not_on_the_split():
    a, b = (record_clips(EventDigits(), 0, 4),
            record_clips(EventDigits(train_per_class=5, test=500), 0, 4))
    assert (torch.equal(a, b) and a.dtype == torch.uint8 and a.shape == (1797, 4, 2, 16, 16) and
            a.max() <= 8)


def test_still_and_event_splits_are_the_same_digits():
    for seed in (0, 1):
        a, b = (Digits(train_per_class=7, test=900).load(None, seed, 4),
                EventDigits(train_per_class=7, test=900).load(None, seed, 4))
        assert all(torch.equal(p.y, q.y) for p, q in zip(a[:3], b[:3])) and a.classes == b.classes


def test_making_the_data_is_quick():
    EventDigits().load(None, 0, 10)
    begin = time.process_time()
    EventDigits().load(None, 101, 10); Digits().load(None, 101, 10)
    # 0.4 s on one core of a laptop; generous, since CI machines are slow and shared
    assert time.process_time() - begin < 3


def test_crop_flip_refuses():
    x = torch.zeros(2, 1, 4, 4)
    with pytest.raises(UserError): CropFlip(pad=-1)
    with pytest.raises(UserError): CropFlip()(x, torch.zeros(2, 2))
    with pytest.raises(UserError): CropFlip()(x, torch.zeros(3, 3))
    assert (dataclasses.replace(CropFlip(), flip=False).k == 2 and CropFlip().k == 3 and
            NoAugment().k == 0)


def test_shift_noise_refuses():
    u = torch.zeros(2, ShiftNoise().k)
    for bad in (dict(pad=-1), dict(noise=-.1), dict(size=0)):
        with pytest.raises(UserError): ShiftNoise(**bad)
    for x in (torch.zeros(2, 3, 12, 12), torch.zeros(4, 2, 1, 12, 12), torch.zeros(3, 1, 12, 12),
              torch.zeros(2, 1, 12, 12, dtype=torch.uint8)):
        with pytest.raises(UserError): ShiftNoise()(x, u)
    assert ShiftNoise(noise=0.)(torch.ones(2, 1, 12, 12), u + .5).eq(1).all()


def test_crop_flip_keeps_the_kind():
    x = torch.arange(32, dtype=torch.uint8).view(2, 1, 4, 4)
    y = CropFlip(pad=0)(x, torch.tensor([[0., .99, .2], [0., .99, .8]]))
    assert y.dtype == x.dtype and torch.equal(y[0], x[0].flip(-1)) and torch.equal(y[1], x[1])
