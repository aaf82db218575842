"The papers' nets and small ones."
from typing import TYPE_CHECKING

from snn_repro.core.lazy import lazy

if TYPE_CHECKING:
    from snn_repro.models.resnet19 import EnofResNet19, ResNet19, ThinResNet19
    from snn_repro.models.resnet20 import EnofResNet20, EnofResNet34, ThinResNet20
    from snn_repro.models.sew import (SEWResNet18, SEWResNet19, SEWResNet34, SEWResNet50,
                                      ThinSEWResNet18, ThinSEWResNet19)
    from snn_repro.models.small import SmallResNet, SmallSEW, SmallVGG
    from snn_repro.models.vgg import VGGSNN, ThinVGG

__getattr__, __dir__, __all__ = lazy(__name__, {
    'vgg': 'VGGSNN ThinVGG',
    'resnet19': 'ResNet19 EnofResNet19 ThinResNet19',
    'resnet20': 'EnofResNet20 EnofResNet34 ThinResNet20',
    'sew': ('SEWResNet18 SEWResNet19 SEWResNet34 SEWResNet50 ThinSEWResNet18 '
            'ThinSEWResNet19'),
    'small': 'SmallResNet SmallSEW SmallVGG'})
