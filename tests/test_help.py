"""`help(NAME)` of each public name: shapes, errors and an example, on one screen; examples run."""
import doctest, inspect
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

PARTS = ['snn_repro', 'snn_repro.losses', 'snn_repro.nn', 'snn_repro.metrics', 'snn_repro.models']
PUBLIC = {name: getattr(import_module(part), name)
          for part in PARTS for name in import_module(part).__all__}
USUAL = {'torch': torch, 'nn': nn, 'np': np, 'Path': Path}
SCREEN = 40   # lines


def text_of(value) -> str:
    "The docstring that `help` shows first; of a setting such as `ETC`, that of its class."
    of = value if inspect.isclass(value) or inspect.isroutine(value) else type(value)
    return inspect.cleandoc(vars(of).get('__doc__') if inspect.isclass(of) else of.__doc__)


def example_of(name: str, text: str) -> doctest.DocTest:
    "The examples in a text; they find every public name, and what everybody imports."
    return doctest.DocTestParser().get_doctest(text, {**PUBLIC, **USUAL}, name, None, None)


def failures(name: str, text: str) -> int:
    return doctest.DocTestRunner(verbose=False).run(example_of(name, text)).failed


def test_there_are_names(): assert len(PUBLIC) > 70 and {'TKS', 'fit', 'load_run'} < {*PUBLIC}


@pytest.mark.parametrize('name', PUBLIC)
def test_a_name_explains_itself(name):
    value = PUBLIC[name]
    text = text_of(value)
    assert example_of(name, text).examples, 'no example'
    assert len(text.splitlines()) <= SCREEN and not text.startswith(f'{name}('), text
    if not (inspect.isclass(value) or inspect.isroutine(value)): assert f'`{name}`' in text


@pytest.mark.parametrize('name', PUBLIC)
def test_its_example_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng(devices=[]): assert failures(name, text_of(PUBLIC[name])) == 0


@pytest.mark.parametrize('name', PUBLIC)
def test_its_signature_has_types(name):
    value = PUBLIC[name]
    if inspect.isclass(value) or not inspect.isroutine(value):
        of = value if inspect.isclass(value) else type(value)
        methods = [m for n, m in vars(of).items() if inspect.isfunction(m) and
                   (n in ('__init__', '__call__') or not n.startswith('_'))]
    else: methods = [value]
    for method in methods:
        for p in list(inspect.signature(method).parameters.values()):
            assert p.name == 'self' or p.annotation is not p.empty, (method.__qualname__, p.name)


def test_a_wrong_example_is_seen(capsys):
    assert failures('wrong', '>>> 1 + 1\n3\n') == 1 and 'Expected' in capsys.readouterr().out
