"Data sets, augmentation, and the reading and fetching of files."
from typing import TYPE_CHECKING

from snn_repro.core.lazy import lazy

if TYPE_CHECKING:   # what an editor sees
    from snn_repro.data.augment import Augment as Augment
    from snn_repro.data.augment import CropFlip as CropFlip
    from snn_repro.data.augment import NoAugment as NoAugment
    from snn_repro.data.augment import ShiftNoise as ShiftNoise
    from snn_repro.data.digits import Digits as Digits
    from snn_repro.data.event_images import EventImages as EventImages
    from snn_repro.data.event_sets import DVSCIFAR10 as DVSCIFAR10
    from snn_repro.data.event_sets import NMNIST as NMNIST
    from snn_repro.data.event_sets import NCaltech101 as NCaltech101
    from snn_repro.data.few_cars import FewCars as FewCars
    from snn_repro.data.image_folders import CUB200 as CUB200
    from snn_repro.data.image_folders import Folder as Folder
    from snn_repro.data.image_folders import ImageNet1k as ImageNet1k
    from snn_repro.data.image_folders import StanfordCars as StanfordCars
    from snn_repro.data.image_folders import StanfordDogs as StanfordDogs
    from snn_repro.data.images import CIFAR10 as CIFAR10
    from snn_repro.data.images import CIFAR100 as CIFAR100
    from snn_repro.data.images import Npz as Npz
    from snn_repro.data.own_sets import EventFolder as EventFolder
    from snn_repro.data.own_sets import NpzClips as NpzClips
    from snn_repro.data.policies import AutoAugmentCutout as AutoAugmentCutout
    from snn_repro.data.policies import CropFlipRotate as CropFlipRotate
    from snn_repro.data.policies import FlipRoll as FlipRoll
    from snn_repro.data.policies import RandomResizedCropFlip as RandomResizedCropFlip
    from snn_repro.data.policies import Strong as Strong
    from snn_repro.data.simulated_events import EventDigits as EventDigits
    from snn_repro.data.source import Data as Data
    from snn_repro.data.source import Source as Source
    from snn_repro.data.source import Split as Split
    from snn_repro.data.source import Validation as Validation
else:
    __getattr__, __dir__, __all__ = lazy(__name__, {
        'source': 'Data Source Split Validation',
        'digits': 'Digits',
        'augment': 'Augment CropFlip NoAugment ShiftNoise',
        'policies': 'AutoAugmentCutout CropFlipRotate FlipRoll RandomResizedCropFlip Strong',
        'images': 'CIFAR10 CIFAR100 Npz',
        'own_sets': 'EventFolder NpzClips',
        'image_folders': 'CUB200 Folder ImageNet1k StanfordCars StanfordDogs',
        'few_cars': 'FewCars',
        'simulated_events': 'EventDigits',
        'event_images': 'EventImages',
        'event_sets': 'DVSCIFAR10 NCaltech101 NMNIST'})
