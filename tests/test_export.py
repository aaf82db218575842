"An exported net gives what the run gives, where this library is not."
import json, runpy, shutil, subprocess, sys, zipfile
from collections import namedtuple
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from spikingjelly.activation_based import neuron
from torch import nn

from conftest import NAME, TINY
from snn_repro.core.files import seal
from snn_repro.core.own import import_file
from snn_repro.core.spec import UserError
from snn_repro.models.resnet19 import ThinResNet19
from snn_repro.models.resnet20 import EnofResNet34, ThinResNet20
from snn_repro.models.sew import ThinSEWResNet18
from snn_repro.models.small import SmallResNet, SmallSEW, SmallVGG
from snn_repro.nn.graph import layers_of
from snn_repro.nn.layers import Folded, SpikingNet
from snn_repro.nn.neurons import ENOF_LIF, LIF, TKS_LIF, Sigmoid, Tanh
from snn_repro.records.runs import SCHEMA
from snn_repro.training.export import (AsStored, about, export_run, to_nir, to_onnx,
                                       to_spikingjelly, to_torch)
from snn_repro.training.trained import Trained

root = Path(__file__).parents[1]
FIRING = LIF(v_threshold=.05)   # so that ResNet-19's hidden layer fires
ARCHS = {'VGG, TKS': SmallVGG(), 'residual, EnOF': SmallResNet(neuron=ENOF_LIF, depth=2),
         'SEW, TKS': SmallSEW(), 'SEW, EnOF': SmallSEW(neuron=ENOF_LIF),
         'RepAct': SmallResNet(readout='relu'), 'ANN': SmallVGG().ann(),
         'TEBN': SmallVGG(norm='tebn'), 'ResNet-19': ThinResNet19(neuron=FIRING),
         'ResNet-20': ThinResNet20(neuron=ENOF_LIF), 'SEW-18': ThinSEWResNet18(neuron=FIRING)}
Run = namedtuple('Run', 'id slug')


def made(arch, T=4, dtype='float32', still=True, spread=True, size=16, n=64):
    """A net whose normalisation knows its data, and `n` samples as they are stored, of which the
    last layer of spikes sees some."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = arch.build((2, size, size), 5, T)
        x = torch.randn(*([n] if still else [T, n]), 2, size, size)
    unit = 40. if dtype == 'uint8' else 1.
    if dtype == 'uint8': x = (128 + unit*x).clamp(0, 255).byte()
    centre = 128. if dtype == 'uint8' else .1
    said = {'classes': list('abcde'), 'shape': [2, size, size], 'dtype': dtype, 'still': still}
    if spread: said |= {'mean': [centre, centre], 'std': [unit, 1.1*unit]}
    trained = Trained(net, Run('a-run-s0-0123', 'a run'), said)
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d): m.momentum = None   # the mean of all batches
    with torch.no_grad():
        net.train()(trained.ready(x))
        out = net.eval()(trained.ready(x))
    assert .001 < out.features.mean() < 3 and out.logits.std() > .01
    return trained, x, out.logits


def put(files: dict, folder: Path) -> Path:
    for suffix, content in files.items(): (folder/f'net{suffix}').write_bytes(content)
    return folder


def written(to, trained): return to(trained, about(trained, to.__name__.removeprefix('to_')))


@pytest.mark.parametrize('T', (1, 4))
@pytest.mark.parametrize('name', ARCHS)
def test_spikingjelly_gives_every_bit(name, T, tmp_path):
    trained, x, want = made(ARCHS[name], T, size=32 if name == 'SEW-18' else 16)
    files = put(written(to_spikingjelly, trained), tmp_path)
    theirs = runpy.run_path(str(files/'net.py'))['load']()
    parts = {type(m).__module__.partition('.')[0] for m in theirs.modules()}
    assert parts <= {'spikingjelly', 'torch', '<run_path>'}
    with torch.no_grad():
        assert torch.equal(theirs(x), want)
        assert torch.equal(theirs(x), want), 'a second call begins at rest'


@pytest.mark.parametrize('dtype, still, spread', [
    ('uint8', True, True), ('float32', True, False), ('float32', False, True),
    ('uint8', False, False)])
def test_spikingjelly_takes_what_was_stored(dtype, still, spread, tmp_path):
    trained, x, want = made(SmallVGG(), 4, dtype, still, spread)
    files = put(written(to_spikingjelly, trained), tmp_path)
    with torch.no_grad():
        assert torch.equal(runpy.run_path(str(files/'net.py'))['load']()(x), want)


@pytest.mark.parametrize('p', (TKS_LIF, ENOF_LIF, LIF(tau=3., surrogate=Sigmoid())),
                         ids=('TKS', 'EnOF', 'sigmoid'))
def test_in_spikingjelly_it_goes_on_training_with_the_same_gradient(p, tmp_path):
    trained, x, _ = made(SmallVGG(neuron=p))
    files = put(written(to_spikingjelly, trained), tmp_path)
    theirs, ours = runpy.run_path(str(files/'net.py'))['load'](), AsStored(trained)
    for net in (theirs, ours): net.train()(x).mean(0).logsumexp(1).sum().backward()
    for a, b in zip(theirs.parameters(), ours.parameters(), strict=True):
        assert b.grad.norm() > 0 and (a.grad - b.grad).norm() <= 1e-3*b.grad.norm()


def test_a_surrogate_that_spikingjelly_lacks_is_left_out():
    trained, _, _ = made(SmallVGG(neuron=LIF(surrogate=Tanh())))
    assert b'surrogate_function' not in written(to_spikingjelly, trained)['.py']


ALONE = '''
import runpy, sys
sys.modules['snn_repro'] = None
import torch
x = torch.load('x.pt')
with torch.no_grad():
    torch.save(runpy.run_path('net.py')['load']()(x), 'spikingjelly.pt')
    torch.save(torch.export.load('net.pt2').module()(x), 'torch.pt')
'''

@pytest.mark.slow
def test_files_are_read_without_this_library(tmp_path):
    trained, x, want = made(SmallResNet(neuron=ENOF_LIF), dtype='uint8')
    put(written(to_spikingjelly, trained) | written(to_torch, trained), tmp_path)
    torch.save(x, tmp_path/'x.pt')
    done = subprocess.run([sys.executable, '-c', ALONE], cwd=tmp_path, capture_output=True,
                          text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert torch.equal(torch.load(tmp_path/'spikingjelly.pt'), want)
    assert torch.allclose(torch.load(tmp_path/'torch.pt'), want, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize('name, T, dtype, still', [
    ('residual, EnOF', 4, 'float32', True), ('RepAct', 1, 'uint8', True),
    ('TEBN', 4, 'float32', False), ('ANN', 4, 'float32', True)])
def test_a_torch_program_takes_any_number_of_samples(name, T, dtype, still):
    trained, x, want = made(ARCHS[name], T, dtype, still, n=20)
    content = written(to_torch, trained)['.pt2']
    extra = {'about.json': ''}
    theirs = torch.export.load(BytesIO(content), extra_files=extra).module()
    assert json.loads(extra['about.json'])['classes'] == list('abcde')
    for n in (1, 3, 20):
        some = x[:n] if still else x[:, :n].contiguous()
        with torch.no_grad(): ours = AsStored(trained)(some)
        assert torch.allclose(theirs(some), ours, atol=1e-5) and want.std() > 1e-2


def agree(got, want):
    """Spikes that stand at their threshold may flip where sums are taken in another order.
    Elsewhere logits agree to rounding, and labels nearly everywhere."""
    difference = (got - want).abs().amax((0, 2))
    assert want.std() > 100*1e-4, 'rounding is not what is tested'
    assert (difference < 1e-4).float().mean() > .9
    assert (got.mean(0).argmax(1) == want.mean(0).argmax(1)).float().mean() > .9


@pytest.mark.slow
@pytest.mark.parametrize('name, T, dtype, still', [
    ('residual, EnOF', 4, 'uint8', True), ('VGG, TKS', 1, 'float32', True),
    ('SEW, TKS', 2, 'float32', False)])
def test_onnxruntime_gives_the_same_labels(name, T, dtype, still):
    pytest.importorskip('onnxscript')
    import onnx, onnxruntime
    trained, x, want = made(ARCHS[name], T, dtype, still)
    content = written(to_onnx, trained)['.onnx']
    model = onnx.load_from_string(content)
    onnx.checker.check_model(model)
    said = {m.key: json.loads(m.value) for m in model.metadata_props}['about']
    assert said['T'] == T and said['dtype'] == dtype and said['format'] == 'onnx'
    session = onnxruntime.InferenceSession(content, providers=['CPUExecutionProvider'])
    def run(x): return torch.from_numpy(session.run(['logits'], {'x': x.numpy()})[0])
    agree(run(x), want)
    assert run(x[:1] if still else x[:, :1]).shape == (T, 1, 5)
    assert str(root).encode() not in content


def test_no_path_of_this_machine_is_in_a_program():
    trained, _, _ = made(SmallVGG())
    with zipfile.ZipFile(BytesIO(written(to_torch, trained)['.pt2'])) as f:
        assert not [n for n in f.namelist() if str(root).encode() in f.read(n)]


class Reader:
    """Runs a NIR file step by step: a node's input is the sum over its edges, and neurons take
    forward Euler steps of `dt`."""
    def __init__(self, content: bytes):
        import nir
        self.graph, self.v = nir.read(BytesIO(content)), {}
        said = self.graph.metadata['about']
        self.about = json.loads(said if isinstance(said, str) else said.decode())

    def step(self, x):
        found = {}
        def value(name):
            if name not in found:
                node = self.graph.nodes[name]
                before = [value(a) for a, b in self.graph.edges if b == name]
                found[name] = x if not before else self.node(name, node, sum(before))
            return found[name]
        return value('output')

    def node(self, name, n, i):
        def t(v): return torch.from_numpy(np.array(v)).double()
        match type(n).__name__:
            case 'Conv2d': return F.conv2d(i, t(n.weight), t(n.bias), tuple(n.stride),
                                           tuple(n.padding), tuple(n.dilation))
            case 'AvgPool2d': return F.avg_pool2d(i, tuple(n.kernel_size), tuple(n.stride))
            case 'Flatten': return i.flatten(1)
            case 'Affine': return i @ t(n.weight).T + t(n.bias)
            case 'Output': return i
        assert type(n).__name__ == 'LIF'
        v = self.v.get(name, torch.zeros(1).double())
        v = v + self.about['dt']/t(n.tau)*(t(n.v_leak) - v + t(n.r)*i)
        fires = v > t(n.v_threshold)
        self.v[name] = torch.where(fires, t(n.v_reset), v)
        return fires.double()


@pytest.mark.parametrize('T', (1, 4))
@pytest.mark.parametrize('name', ('VGG, TKS', 'residual, EnOF', 'SEW, TKS', 'SEW, EnOF',
                                  'ResNet-19', 'ResNet-20'))
def test_a_nir_graph_stepped_by_its_equations_gives_the_same_spikes(name, T):
    pytest.importorskip('nir')
    trained, x, want = made(ARCHS[name], T)
    read = Reader(written(to_nir, trained)['.nir'])
    assert read.about['T'] == T and read.about['integration'] == 'forward Euler'
    agree(torch.stack([read.step(x.double()) for _ in range(T)]).float(), want)


@pytest.mark.parametrize('name', ('residual, EnOF', 'SEW, TKS'))
def test_spikingjelly_reads_a_nir_graph_with_the_same_spikes(name, tmp_path):
    pytest.importorskip('nirtorch')
    from spikingjelly.activation_based.nir_exchange.from_nir import import_from_nir
    trained, x, want = made(ARCHS[name])
    read = import_from_nir(put(written(to_nir, trained), tmp_path)/'net.nir')
    state, found = None, []
    with torch.no_grad():
        for _ in range(4):
            y, state = read(x, state)
            found.append(y)
    agree(torch.stack(found), want)


def test_a_nir_graph_takes_bytes_and_clips():
    pytest.importorskip('nir')
    trained, x, want = made(SmallVGG(), 4, 'uint8', False)
    read = Reader(written(to_nir, trained)['.nir'])
    agree(torch.stack([read.step(frame.double()) for frame in x]).float(), want)


@pytest.mark.parametrize('arch, word', [
    (ARCHS['RepAct'], 'no node for ReLU'), (ARCHS['ANN'], 'no node for ReLU'),
    (ARCHS['TEBN'], 'no node for TEBN'), (ARCHS['SEW-18'], 'no node for MaxPool2d'),
    (EnofResNet34(channels=(4, 4), depths=(1, 1)), 'no node for AvgPool2d'),
    (ThinResNet20(channels=(4, 4, 4), depths=(1, 1, 1)), 'part of a window')], ids=str)
def test_what_nir_has_no_node_for_is_refused(arch, word):
    pytest.importorskip('nir')
    net = arch.build((2, 36, 36), 5, 4)
    said = {'classes': list('abcde'), 'shape': [2, 36, 36], 'dtype': 'float32', 'still': True}
    with pytest.raises(UserError, match=word) as e:
        to_nir(Trained(net, Run('a', 'a'), said), {})
    assert '\n' not in str(e.value) and '--to onnx' in str(e.value)


@pytest.mark.slow
def test_a_net_of_ones_own_is_written(tmp_path):
    "A ResNet of torchvision: blocks that are not ours, a neuron that is called twice."
    file = tmp_path/'my_net.py'
    file.write_text((root/'snn_repro/assets/my_net.txt').read_text())
    trained, x, want = made(import_file(file).MyResNet(depths=(1, 1, 1, 1)), 4, n=200)
    files = put(written(to_spikingjelly, trained) | written(to_torch, trained), tmp_path)
    theirs = runpy.run_path(str(files/'net.py'))['load']()
    nodes = [m for m in theirs.modules() if isinstance(m, neuron.LIFNode)]
    assert len(nodes) == 9, 'each call has a membrane of its own'
    with torch.no_grad(): assert torch.equal(theirs(x), want)
    program = torch.export.load(files/'net.pt2').module()
    for n in (1, 20):
        with torch.no_grad(): ours = AsStored(trained)(x[:n])
        assert torch.allclose(program(x[:n]), ours, atol=1e-5)
    pytest.importorskip('nir')
    read = Reader(written(to_nir, trained)['.nir'])
    with torch.no_grad():
        agree(torch.stack([read.step(x.double()) for _ in range(4)]).float(), want)


class Functional(nn.Module):
    def forward(self, x): return torch.relu(x)

class Choosing(nn.Module):
    def forward(self, x): return x if x.mean() > 0 else -x

class Own(SpikingNet):
    def forward(self, x): return super().forward(x)


@pytest.mark.parametrize('of, module, words', [
    (SpikingNet, Functional(), 'relu in its forward pass is no layer'),
    (SpikingNet, Choosing(), 'cannot be followed'), (SpikingNet, nn.GELU(), 'GELU'),
    (Own, nn.Identity(), 'forward pass is its own')])
@pytest.mark.parametrize('to', (to_spikingjelly, to_nir))
def test_layers_of_ones_own_that_cannot_be_said_are_refused(of, module, words, to):
    net = of(Folded(nn.Conv2d(2, 3, 3)), nn.Sequential(TKS_LIF.build(), module, nn.Flatten(2)),
             nn.Linear(3*14*14, 5), 4)
    said = {'classes': list('abcde'), 'shape': [2, 16, 16], 'dtype': 'float32', 'still': True}
    with pytest.raises(UserError, match=words): to(Trained(net, Run('a', 'a'), said), about(
        Trained(net, Run('a', 'a'), said), 'x'))


def test_a_net_that_torch_cannot_follow_is_one_line():
    net = SpikingNet(Folded(nn.Conv2d(2, 3, 3)), nn.Sequential(Choosing(), nn.Flatten(2)),
                     nn.Linear(3*14*14, 5), 4)
    said = {'classes': list('abcde'), 'shape': [2, 16, 16], 'dtype': 'float32', 'still': True}
    with pytest.raises(UserError, match='torch.export cannot follow') as e:
        to_torch(Trained(net, Run('a', 'a'), said), {})
    assert '\n' not in str(e.value)


def test_layers_are_listed_with_their_sums():
    net = SmallSEW(channels=(4, 8)).build((2, 16, 16), 5, 4)
    stem, rest = layers_of(net, (2, 16, 16))
    assert [type(s.module).__name__ for s in stem] == ['Conv2d', 'BatchNorm2d']
    sums = [s for s in rest if s.module is None]
    assert len(sums) == 1 and len(sums[0].inputs) == 2
    names = ['x', *(s.name for s in stem + rest)]
    assert all(i in names[:names.index(s.name)] for s in stem + rest for i in s.inputs)
    assert rest[0].shape == (4, 16, 16) and rest[-1].shape == (8*8*8,)
    assert len(names) == len(set(names))


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    from snn_repro.cli.main import main
    out = tmp_path_factory.mktemp('runs')
    assert main(['run', NAME, *TINY, '--out', str(out)]) == 0
    done, = out.glob('*/done.json')
    return done.parent


@pytest.mark.slow
@pytest.mark.parametrize('to, suffixes', [
    ('spikingjelly', ['.py', '.pt', '.py.json']), ('torch', ['.pt2', '.pt2.json'])])
def test_the_command(run, cli, refused, tmp_path, monkeypatch, to, suffixes):
    monkeypatch.chdir(tmp_path)
    code, out, err = cli('export', run, '--to', to)
    assert code == 0 and not err
    # a file of Python can be imported by its name
    name = run.name.replace('-', '_') if to == 'spikingjelly' else run.name
    assert to != 'spikingjelly' or name.isidentifier()
    assert sorted(tmp_path.iterdir()) == sorted(tmp_path/f'{name}{s}' for s in suffixes)
    assert all(f'{name}{s}' in out for s in suffixes)
    said = json.loads((tmp_path/f'{name}{suffixes[-1]}').read_text())
    stored = json.loads((run/'input.json').read_text())
    assert said | stored == said and said['run'] == run.name
    assert 'exists already' in refused('export', run, '--to', to)
    assert cli('export', run, '--to', 'nir')[0] == 0, 'another format finds room beside it'
    code, _, _ = cli('export', run, '--to', to, '--out', tmp_path/'deep'/'net')
    assert code == 0 and (tmp_path/'deep'/f'net{suffixes[0]}').exists()
    assert 'ends in' in refused('export', run, '--to', to, '--out', tmp_path/'net.txt')


def test_what_cannot_be_exported_is_one_line_and_nothing_is_written(run, refused, tmp_path,
                                                                    monkeypatch):
    old = shutil.copytree(run, tmp_path/'old')
    for name in ('input.json', 'done.json'): (old/name).unlink()
    seal(old, SCHEMA)
    (tmp_path/'here').mkdir()
    monkeypatch.chdir(tmp_path/'here')
    assert 'no finished run' in refused('export', tmp_path/'nowhere', '--to', 'torch')
    assert 'older version' in refused('export', old, '--to', 'torch')
    assert "'keras'" in refused('export', run, '--to', 'keras')
    assert '--to' in refused('export', run)
    with pytest.raises(UserError, match="unknown format 'keras'"): export_run(run, 'keras')
    # where it goes is looked at before the run is
    line = refused('export', tmp_path/'nowhere', '--to', 'torch', '--out', '/proc/x.pt2')
    assert '/proc/x.pt2: ' in line and '(choose a folder you may write to)' in line
    (tmp_path/'file').touch()
    line = refused('export', tmp_path/'nowhere', '--to', 'torch', '--out', tmp_path/'file/x.pt2')
    assert 'a file stands where a folder is needed' in line and '.part' not in line
    refused('export', tmp_path/'nowhere', '--to', 'torch', '--out', tmp_path/'deep/x.pt2')
    assert not (tmp_path/'deep').exists()
    assert not [*(tmp_path/'here').iterdir()]
