"""TKS and EnOF-SNN, two papers about spiking nets, rebuilt.

What most need is here; it loads when it is asked for, so that reading records never waits for
torch. The rest is in the parts: `nn`, `losses`, `models`, `data`, `metrics`, `experiments`,
`training`, `records`, `analysis`, `bench`, `cli`, and `core`, on which all stand.
"""
__version__ = "0.2.0"

from typing import TYPE_CHECKING

from snn_repro.core.lazy import lazy

if TYPE_CHECKING:   # what an editor sees
    from snn_repro.analysis.groups import compare_runs as compare_runs
    from snn_repro.experiments.experiment import Experiment as Experiment
    from snn_repro.experiments.experiment import Recipe as Recipe
    from snn_repro.losses.laf import LAF as LAF
    from snn_repro.losses.tks import TKS as TKS
    from snn_repro.metrics.classification import aurc as aurc
    from snn_repro.nn.neurons import LIF as LIF
    from snn_repro.nn.neurons import LIFNode as LIFNode
    from snn_repro.training.fit import fit as fit
    from snn_repro.training.trained import load_run as load_run
else:
    __getattr__, __dir__, __all__ = lazy(__name__, {
        'analysis.groups': 'compare_runs',
        'nn.neurons': 'LIF LIFNode',
        'losses.tks': 'TKS',
        'losses.laf': 'LAF',
        'metrics.classification': 'aurc',
        'experiments.experiment': 'Experiment Recipe',
        'training.fit': 'fit',
        'training.trained': 'load_run'})
