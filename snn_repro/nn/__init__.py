"Neurons, layers, and their fast forms."
from snn_repro.nn.fused import fuse
from snn_repro.nn.layers import TDBN, TEBN, Arch, Folded, Output, SpikingNet, over_time
from snn_repro.nn.neurons import (ENOF_LIF, LIF, TET_LIF, TKS_LIF, ATan, LIFNode, Neuron, ReLU,
                                  Rectangle, Sigmoid, Surrogate, Tanh, Triangle, lif)

__all__ = ['ATan', 'Arch', 'ENOF_LIF', 'Folded', 'LIF', 'LIFNode', 'Neuron', 'Output', 'ReLU',
           'Rectangle', 'Sigmoid', 'SpikingNet', 'Surrogate', 'TDBN', 'TEBN', 'TET_LIF',
           'TKS_LIF', 'Tanh', 'Triangle', 'fuse', 'lif', 'over_time']
