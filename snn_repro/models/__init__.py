"The papers' nets and small ones."
from typing import TYPE_CHECKING

from snn_repro.core.lazy import lazy

if TYPE_CHECKING:   # what an editor sees
    from snn_repro.models.resnet19 import EnofResNet19 as EnofResNet19
    from snn_repro.models.resnet19 import ResNet19 as ResNet19
    from snn_repro.models.resnet19 import ThinResNet19 as ThinResNet19
    from snn_repro.models.resnet20 import EnofResNet20 as EnofResNet20
    from snn_repro.models.resnet20 import EnofResNet34 as EnofResNet34
    from snn_repro.models.resnet20 import ThinResNet20 as ThinResNet20
    from snn_repro.models.sew import SEWResNet18 as SEWResNet18
    from snn_repro.models.sew import SEWResNet19 as SEWResNet19
    from snn_repro.models.sew import SEWResNet34 as SEWResNet34
    from snn_repro.models.sew import SEWResNet50 as SEWResNet50
    from snn_repro.models.sew import ThinSEWResNet18 as ThinSEWResNet18
    from snn_repro.models.sew import ThinSEWResNet19 as ThinSEWResNet19
    from snn_repro.models.small import SmallResNet as SmallResNet
    from snn_repro.models.small import SmallSEW as SmallSEW
    from snn_repro.models.small import SmallVGG as SmallVGG
    from snn_repro.models.vgg import VGGSNN as VGGSNN
    from snn_repro.models.vgg import ThinVGG as ThinVGG
else:
    __getattr__, __dir__, __all__ = lazy(__name__, {
        'vgg': 'VGGSNN ThinVGG',
        'resnet19': 'ResNet19 EnofResNet19 ThinResNet19',
        'resnet20': 'EnofResNet20 EnofResNet34 ThinResNet20',
        'sew': ('SEWResNet18 SEWResNet19 SEWResNet34 SEWResNet50 ThinSEWResNet18 '
                'ThinSEWResNet19'),
        'small': 'SmallResNet SmallSEW SmallVGG'})
