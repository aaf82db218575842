"""Loss terms: what the two papers, and those before and after them, add to cross-entropy.

Each takes `(out, target, progress, teacher)` and gives its weighted parts by name; their sum, or
`total` of several terms, is the loss.
"""
from snn_repro.losses.agreement import ETC, TWKD_ANN, TWKD_SELF, Agreement
from snn_repro.losses.laf import LAF
from snn_repro.losses.objectives import CE, KD, LTS, TET, Objective, Teacher, total
from snn_repro.losses.pairs import S2W, TPD, W2S, Pair
from snn_repro.losses.tks import TKS

__all__ = ['Agreement', 'CE', 'ETC', 'KD', 'LAF', 'LTS', 'Objective', 'Pair', 'S2W', 'TET', 'TKS',
           'TPD', 'TWKD_ANN', 'TWKD_SELF', 'Teacher', 'W2S', 'total']
