"""TKS and EnOF-SNN, two papers about spiking nets, rebuilt.

What most need is here; it loads when it is asked for, so that reading records never waits for
torch. The rest is in the parts: `nn`, `losses`, `models`, `data`, `metrics`, `experiments`,
`training`, `records`, `analysis`, `bench`, `cli`, and `core`, on which all stand.
"""
__version__ = "0.2.0"

from typing import TYPE_CHECKING

from snn_repro.core.lazy import lazy

if TYPE_CHECKING:
    from snn_repro.analysis.groups import compare_runs
    from snn_repro.experiments.experiment import Experiment
    from snn_repro.losses.laf import LAF
    from snn_repro.losses.tks import TKS
    from snn_repro.metrics.classification import aurc
    from snn_repro.nn.neurons import LIF, LIFNode
    from snn_repro.training.fit import fit
    from snn_repro.training.trained import load_run

__getattr__, __dir__, __all__ = lazy(__name__, {
    'analysis.groups': 'compare_runs',
    'nn.neurons': 'LIF LIFNode',
    'losses.tks': 'TKS',
    'losses.laf': 'LAF',
    'metrics.classification': 'aurc',
    'experiments.experiment': 'Experiment',
    'training.fit': 'fit',
    'training.trained': 'load_run'})
