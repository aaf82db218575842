"""A data set that is not here, as far as a time needs it.

As many images of the same form and classes, filled with chance.
"""
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from snn_repro.core.spec import check
from snn_repro.data.event_images import EventImages
from snn_repro.data.few_cars import FewCars
from snn_repro.data.image_folders import Published, StanfordCars
from snn_repro.data.images import CIFAR
from snn_repro.data.recordings import Recordings
from snn_repro.data.source import Data, Source, Split, Validation


class Extent(NamedTuple):
    """How many samples a set has for training and for the test, of which form and classes.
    The form is that of an image or frame, (C, H, W); of classes there are `classes`."""
    train: int
    test: int
    shape: tuple[int, int, int]
    classes: int


def extent(data: Data) -> Extent | None:
    """What is known of a data set without a look at it: published numbers, less what is left out.
    It is the setting that leaves out. `FewCars` is taken to have as many images of a class as the
    whole set has on average. None where nothing is known."""
    match data:
        case Validation(): return extent(data.of)
        case EventImages():
            return (known := extent(data.of)) and known._replace(shape=(2, *known.shape[1:]))
        case FewCars():
            each = StanfordCars.numbers[0]//StanfordCars.numbers[2]   # on average: copies differ
            left = each - data.test_per_class - data.valid_per_class
            train = data.train_per_class or left
            return Extent(data.count*train, data.count*data.test_per_class,
                          (3, data.size, data.size), data.count) if 0 < train <= left else None
        case CIFAR():
            k = 10 if data.stem == 'cifar10' else 100
            each = lambda asked, there, less=0: k*(there//k - less if asked is None else asked)
            return Extent(each(data.train_per_class, 50000, data.valid_per_class),
                          each(data.test_per_class, 10000), (3, 32, 32), k)
        case Published():
            train, test, k = data.numbers
            asked = lambda n, there: there if n is None else min(there, k*n)
            return Extent(asked(data.train_per_class, train), asked(data.test_per_class, test),
                          (3, data.size, data.size), k)
        case Recordings() if data.numbers:
            whole = sum(data.numbers)
            train = data.numbers[0] if data.split == 'official' else round(data.train_share*whole)
            return Extent(data.train or train - data.valid, data.test or whole - train,
                          (2, data.size, data.size), data.count)
    return None


class Noise(Source):
    """`n` samples of the form `shape` (C, H, W), of each class in turn.
    In `T` frames, or as still images (None)."""
    def __init__(self, n: int, shape, classes: int, T: int | None):
        super().__init__(None, torch.arange(n) % classes)
        self.form, self.T = tuple(shape), T

    @property
    def shape(self): return self.form

    def batch(self, index, cut=None):
        size = (len(index), *self.form) if self.T is None else (self.T, len(index), *self.form)
        return torch.randint(256 if self.T is None else 2, size, dtype=torch.uint8), self.y[index]

    def ready(self, x): return x.float()/255 if self.T is None else x.float()

    def values(self): yield np.array([len(self), *self.form, self.T or 0], np.int64).view(np.uint8)


@dataclass(frozen=True, kw_only=True)
class Unseen(Data):
    """As many images of chance as the set `of` has, of its form and classes.
    Raises `UserError` where these are not known."""
    of: Data

    @property
    def still(self) -> bool: return self.of.still

    def load(self, root: Path | None, seed: int, T: int) -> Split:
        known, frames = extent(self.of), None if self.still else T
        check(known, 'its size is not known without the files', type(self.of).__name__,
              'name their folder with --root')
        def part(n): return Noise(n, known.shape, known.classes, frames)
        return Split(part(known.train), part(0), part(known.test),
                     tuple(map(str, range(known.classes))))
