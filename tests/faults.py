"""The early losses of the miniature's nets, as JSON.

Honest and, with `faults` as argument, with each of seven faults in the objective:
fault ('' for none) -> setting -> seed -> {'probe', 'history'}. A faulty net stands under the
setting that it pretends to be.
"""
import json, sys
from dataclasses import replace

import torch

from snn_repro.analysis.exhibits import find_experiment
from snn_repro.core.spec import variant
from snn_repro.experiments.tiers import find_tier
from snn_repro.losses.objectives import CE
from snn_repro.training.environment import load_split, probe
from snn_repro.training.loop import FrozenANN, build, optimizer, train_epoch

STILL = 'tks-table3-cifar10-resnet19-{}'.format
HONEST = {name: find_tier('mini').scale(find_experiment(name)) for name in
          (*map(STILL, ('baseline', 'ls', 'tet', 'tks')), 'tks-table3-dvs-cifar10-vgg-snn-tks',
           'enof-ablation-4-l_af')}


def faults() -> dict:
    "fault -> (the name of the experiment that it is in, its wrong objective)."
    tks, = HONEST[STILL('tks')].objective
    events = 'tks-table3-dvs-cifar10-vgg-snn-tks'
    return {'factor 1': (STILL('tks'), (replace(tks, squared=False),)),
            'random steps': (STILL('tks'), (replace(tks, select='random'),)),
            'all steps': (STILL('tks'), (replace(tks, select='all'),)),
            'text': (events, variant(HONEST[events], 'paper').objective),
            'no L_AF': ('enof-ablation-4-l_af', (CE(),)), 'no LS': (STILL('ls'), (CE(),)),
            'TET as CE': (STILL('tet'), (Mistaken(),))}


class Mistaken(CE):
    "The cross-entropy of the mean, under TET's name."
    def __call__(self, *a, **how): return {'tet': super().__call__(*a, **how)['ce']}


def look(e) -> dict:
    split, _ = load_split(e.data, None, e.seed, e.T)
    net = build(e, split)
    opt, asked = optimizer(net, e.recipe), any(o.needs_teacher for o in e.objective)
    teacher = FrozenANN(build(e.teacher, split)) if asked else None
    rows = [{'epoch': n} | train_epoch(e, net, split.train, opt, n, teacher) for n in range(2)]
    return {'probe': probe(e, split), 'history': rows}


def setting(e) -> str: return e.id.replace(f'-s{e.seed}-', '-')


def by_seed(e, objective) -> dict:
    return {s: look(replace(e, seed=s, objective=objective)) for s in range(3)}


if __name__ == '__main__':
    torch.set_num_threads(1)
    told = {'': {setting(e): by_seed(e, e.objective) for e in HONEST.values()}}
    if sys.argv[1:] == ['faults']:
        told |= {f: {setting(HONEST[name]): by_seed(HONEST[name], wrong)}
                 for f, (name, wrong) in faults().items()}
    print(json.dumps(told))
