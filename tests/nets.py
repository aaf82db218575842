"What the tests of the full-size nets share."
import pytest
import torch

from snn_repro.layers import Arch


def ids(a): return type(a).__name__ if isinstance(a, Arch) else str(a)


@pytest.fixture(autouse=True)
def same_chance():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def build(arch, shape=(3, 32, 32), classes=7, T=2, seed=0):
    torch.manual_seed(seed)
    return arch.build(shape, classes, T)
