"""The harness that plays other processors: its jitter reaches what it should, and only that.
The runner names what fails."""
import json, os, subprocess, sys
from pathlib import Path

import pytest

from portable import SETTINGS, main

HERE = Path(__file__).parent
LOOK = '''
import json, threading, torch
from torch.nn import functional as F

def draw(*shape, seed=0): return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))

def step(x=draw(6, 3, 8, 8), w=draw(4, 3, 3, 3, seed=1), v=draw(5, 144, seed=2)):
    w, v = w.clone().requires_grad_(), v.clone().requires_grad_()
    h = F.batch_norm(F.conv2d(x, w), None, None, training=True).sigmoid()
    answers = F.linear(h.flatten(1), v[:, :h[0].numel()].contiguous())
    loss = F.cross_entropy(answers, torch.arange(6) % 5)
    loss.backward()
    return [[loss.item()], w.grad.flatten().tolist(), v.grad.flatten().tolist()]

in_a_thread = []
thread = threading.Thread(target=lambda: in_a_thread.extend(step()))
thread.start(); thread.join()
gap = torch.linspace(0, 12, 1201)
lead = F.one_hot(torch.tensor(0), 10) * gap[:, None]
curve = [F.cross_entropy(o[None], torch.tensor([0])).item() for o in lead]
batch, conv = draw(8, 3, 6, 6), draw(2, 3, 3, 3, seed=3)
spikes = (draw(4, 50) > 0).float()
layer = F.linear(torch.zeros(2, 3), draw(4, 3), draw(4))
maps = F.conv2d(torch.zeros(1, 3, 4, 4), conv, draw(2))
print(json.dumps({
    'twice': [step(), step()], 'thread': in_a_thread,
    'double': (draw(50, 50).double() @ draw(50, 50, seed=4).double()).sum().item(),
    'counts': [spikes.sum().item() == (spikes > 0).sum().item(), spikes.mean(0).unique().tolist(),
               torch.zeros(3).exp().tolist(), torch.zeros(2).sigmoid().tolist(),
               layer.eq(draw(4)).all().item(), maps.eq(draw(2).view(2, 1, 1)).all().item(),
               draw(1, 50).mean(0).eq(draw(50)).all().item()],
    'cut': (F.conv2d(batch, conv)[:4] - F.conv2d(batch[:4], conv)).abs().max().item(),
    'plateau': curve.index(min(curve))}))
'''


def python(code, setting):
    return subprocess.run([sys.executable, '-c', code], env=os.environ | SETTINGS[setting],
                          capture_output=True, text=True)


def looked(setting):
    done = python(LOOK, setting)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


JITTERS = 'jitter 10', 'jitter 11'


@pytest.fixture(scope='module')
def seen(): return {s: looked(s) for s in ('native', *JITTERS)}


@pytest.mark.slow
@pytest.mark.parametrize('setting', JITTERS)
def test_the_last_bits_change_forward_and_backward_and_in_threads(seen, setting):
    here, there = seen['native'], seen[setting]
    first, second = there['twice']
    assert first == second == there['thread'], 'the same call gives the same, wherever it is made'
    for a, b in zip(here['twice'][0], first):
        assert a != b
        assert max(abs(x - y) for x, y in zip(a, b)) < 1e-4 * max(map(abs, a))
    assert 0 < abs(there['double'] - here['double']) < 1e-12 * abs(here['double'])
    assert 0 < there['cut'] < 1e-4, 'a batch cut in two may differ in the last bit'


@pytest.mark.parametrize('setting', JITTERS)
def test_what_every_processor_does_alike_stays(seen, setting):
    counts = [True, [0, .25, .5, .75, 1], [1]*3, [.5]*2, True, True, True]
    assert seen[setting]['counts'] == seen['native']['counts'] == counts


def test_seeds_differ_and_a_flat_place_has_no_one_lowest_point(seen):
    assert len({json.dumps(seen[s]['twice']) for s in seen}) == 3
    plateaus = {seen[s]['plateau'] for s in JITTERS}
    assert plateaus != {1200}, 'what chapter 2.2 once asserted in float32'


def test_nothing_is_imported_early():
    code = "import sys; print({'torch', 'numpy'} & set(sys.modules))"
    assert python(code, 'jitter 10').stdout == 'set()\n'


def test_the_harness_is_no_module_that_a_file_could_bring_in():
    code = "import torch, sys; print([m for m in sys.modules if 'processor' in m])"
    assert python(code, 'jitter 10').stdout == python(code, 'native').stdout


def test_the_runner_names_notebook_cell_and_setting(tmp_path, capsys, monkeypatch):
    import portable
    sources = ['import os', "assert os.environ['ATEN_CPU_CAPABILITY'] != 'default'",
               "'the next cells run as well'"]
    cells = [{'cell_type': 'code', 'id': f'cell-{i}', 'metadata': {}, 'execution_count': None,
              'outputs': [], 'source': s} for i, s in enumerate(sources)]
    (tmp_path/'nbs').mkdir()
    book = {'cells': cells, 'metadata': {}, 'nbformat': 4, 'nbformat_minor': 5}
    (tmp_path/'nbs/9_made_up.ipynb').write_text(json.dumps(book))
    monkeypatch.setattr(portable, 'ROOT', tmp_path)
    assert main(['default'], ['*.ipynb'], 1, shown=False, tests=False) == 1
    said = capsys.readouterr().out
    assert '9_made_up.ipynb, cell 1 (cell-1), under default: AssertionError' in said
    assert 'cell-2' not in said
