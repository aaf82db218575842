"Data sets, augmentation, and the reading and fetching of files."
from typing import TYPE_CHECKING

from snn_repro.core.lazy import lazy

if TYPE_CHECKING:
    from snn_repro.data.augment import Augment, CropFlip, NoAugment
    from snn_repro.data.digits import Digits
    from snn_repro.data.event_images import EventImages
    from snn_repro.data.event_sets import DVSCIFAR10, NMNIST, NCaltech101
    from snn_repro.data.few_cars import FewCars
    from snn_repro.data.image_folders import CUB200, Folder, ImageNet1k, StanfordCars, StanfordDogs
    from snn_repro.data.images import CIFAR10, CIFAR100, Npz
    from snn_repro.data.policies import (AutoAugmentCutout, CropFlipRotate, FlipRoll,
                                         RandomResizedCropFlip, Strong)
    from snn_repro.data.simulated_events import EventDigits
    from snn_repro.data.source import Data, Source, Split, Validation

__getattr__, __dir__, __all__ = lazy(__name__, {
    'source': 'Data Source Split Validation',
    'digits': 'Digits',
    'augment': 'Augment CropFlip NoAugment',
    'policies': 'AutoAugmentCutout CropFlipRotate FlipRoll RandomResizedCropFlip Strong',
    'images': 'CIFAR10 CIFAR100 Npz',
    'image_folders': 'CUB200 Folder ImageNet1k StanfordCars StanfordDogs',
    'few_cars': 'FewCars',
    'simulated_events': 'EventDigits',
    'event_images': 'EventImages',
    'event_sets': 'DVSCIFAR10 NCaltech101 NMNIST'})
