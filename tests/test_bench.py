"""The opponents compute what ours computes, the stopwatch and the scales are right, and the verb
says what it found, or what is wrong, and nothing else."""
import io, json, os, subprocess, sys, time
from dataclasses import replace
from functools import partial

import pytest
import torch
from spikingjelly.activation_based import neuron

from conftest import in_release
from snn_repro.bench import gpu, suite as benches, timing as races
from snn_repro.bench.baselines import (PEERS, SpikingJellyNet, fresh, memory_optimised,
                                       spikingjelly_triangle)
from snn_repro.bench.suite import (RESNET19, RESNET20, SEW, VGG, loading_race, inference, memory,
                                   memory_lif, neurons, peaks, programme, training)
from snn_repro.bench.timing import (BenchConfig, Benchmark, BenchRow, in_subprocess, peak, race,
                                    ratio_rows, saved_bytes)
from snn_repro.bench.workloads import Runner
from snn_repro.cli.main import main
from snn_repro.core.spec import UserError
from snn_repro.models.resnet20 import ThinResNet20
from snn_repro.models.sew import ThinSEWResNet18
from snn_repro.nn.neurons import ENOF_LIF, TET_LIF, TKS_LIF, LIFNode, lif
from snn_repro.training import worker as work

# not thinner: oneDNN issue 6035
TINY = RESNET20._replace(arch=replace(RESNET20.arch, channels=(16, 32), depths=(1, 1)),
                         shape=(3, 8, 8), T=3, batch=8)
QUICK = BenchConfig(threads=1, repeats=2)
NETS = {'resnet20': RESNET20._replace(shape=(3, 8, 8), batch=6),
        'resnet19': RESNET19._replace(shape=(3, 8, 8), batch=6),
        'sew': SEW._replace(shape=(3, 8, 8), batch=6),
        'vgg': VGG._replace(shape=(2, 16, 16), T=3, batch=4),
        'averages': RESNET20._replace(arch=ThinResNet20(channels=(4, 8), depths=(1, 1)),
                                      shape=(3, 18, 18), batch=4),   # 9 pixels halved to 5
        'maxima': RESNET20._replace(arch=ThinSEWResNet18(channels=(4, 8), depths=(1, 1)),
                                    shape=(3, 16, 16), batch=4)}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# the opponents

@pytest.mark.parametrize('name', NETS)
def test_spikingjellys_net_is_our_net(name):
    ours = NETS[name].net().double()
    theirs, (x, _) = SpikingJellyNet(ours), NETS[name].images()
    assert (not any(isinstance(m, LIFNode) for m in theirs.modules()) and
            sum(isinstance(m, neuron.LIFNode) for m in theirs.modules()) ==
            sum(isinstance(m, LIFNode) for m in ours.modules()))
    assert all(torch.equal(p, q) and p is not q
               for p, q in zip(ours.parameters(), theirs.parameters(), strict=True))
    for m in (*ours.modules(), *theirs.modules()):
        # so that the net is alive in test mode too
        if isinstance(m, torch.nn.BatchNorm2d): m.momentum = 1.
    for training in (True, False):
        with torch.no_grad():
            a, b = ours.train(training)(x.double()), fresh(theirs.train(training))(x.double())
        assert (a.logits.std() > 0 and torch.allclose(a.logits, b.logits, atol=1e-9) and
                torch.allclose(a.features, b.features, atol=1e-9))
        assert all(torch.allclose(p, q, rtol=.01)
                   for p, q in zip(ours.buffers(), theirs.buffers(), strict=True))
        # a still image counted once in the variance of our stem, T times in theirs
        theirs.load_state_dict(ours.state_dict())


def test_a_net_that_is_rebuilt_leaves_the_old_one_alone():
    net = TINY.net()
    state, kinds = ({k: v.clone() for k, v in net.state_dict().items()},
                    [type(m) for m in net.modules()])
    x, y = TINY.images()
    theirs = SpikingJellyNet(net)
    theirs(x).logits.sum().backward()
    assert ([type(m) for m in net.modules()] == kinds and
            all(torch.equal(v, net.state_dict()[k]) for k, v in state.items()))


def test_memopt_has_units_from_spikes_to_spikes_and_computes_the_same():
    x, _ = TINY.images()
    plain, packed = SpikingJellyNet(TINY.net()), memory_optimised(TINY.net(), x)
    wrapped = [m for m in packed.modules() if type(m).__name__ == 'CheckpointWrapper']
    inside = {id(n) for w in wrapped for n in w.modules()}
    assert len(wrapped) == 3 and all(id(m) in inside
                                     for m in packed.modules() if isinstance(m, neuron.LIFNode))
    for net in (plain, packed): net(x).logits.square().sum().backward()
    assert all(torch.allclose(p.grad, q.grad, rtol=1e-4, atol=1e-6) and q.grad.any()
               for p, q in zip(plain.parameters(), packed.parameters(), strict=True))
    assert (saved_bytes(lambda: fresh(packed)(x).logits)
            < .5*saved_bytes(lambda: fresh(plain)(x).logits))


@pytest.mark.parametrize('name', PEERS)
@pytest.mark.parametrize('p', (TKS_LIF, ENOF_LIF, TET_LIF), ids=('TKS', 'EnOF', 'TET'))
def test_other_libraries_neurons_send_the_same_spikes(name, p):
    pytest.importorskip(name)
    x = torch.randn(6, 3, 50, generator=torch.Generator().manual_seed(0))
    turn = (lambda t: t.transpose(0, 1)) if name == 'sinabs' else (lambda t: t)
    layer, y = PEERS[name](p), turn(x).clone().requires_grad_()
    layer(y)
    spikes = layer(y)   # a second clip starts at rest too
    spikes.sum().backward()
    assert torch.equal(turn(spikes), lif(x, p)) and y.grad.any()


@pytest.mark.parametrize('p', (TKS_LIF, TET_LIF), ids=('TKS', 'TET'))
def test_the_triangle_of_spikingjelly_has_our_gradient(p):
    x = torch.randn(6, 3, 50, generator=torch.Generator().manual_seed(0),
                    dtype=torch.float64).requires_grad_()
    ours, theirs = (torch.autograd.grad((layer(x)*x).sum(), x)[0]
                    for layer in (lambda x: lif(x, p), spikingjelly_triangle(p)))
    assert ours.any() and torch.allclose(ours, theirs, rtol=1e-12, atol=1e-14)


# the stopwatch

@pytest.mark.slow
def test_a_race_is_run_in_turns():
    seen = []
    times = race({n: partial(seen.append, n) for n in 'abc'}, BenchConfig(repeats=4))
    assert (''.join(seen) == 'abcabc' + 'abc' + 'bca' + 'cab' + 'abc' and
            all(len(t) == 4 for t in times.values()))


def test_times_are_those_of_the_contender():
    times = race({'short': lambda: time.sleep(.002), 'long': lambda: time.sleep(.03)},
                 BenchConfig(repeats=3))
    assert min(times['long']) >= 30 and all(s < l for s, l in zip(times['short'], times['long']))


def test_more_is_better():
    r, = ratio_rows('x', {'ours': [1, 2, 4], 'them': [10, 10, 10]}, 'ms', {'them': 'far away'})
    assert (r.id, r.against, r.ratio, r.low, r.high, r.ours, r.theirs, r.unit,
            r.repeats, r.note) == ('x', 'them', 5, 3.75, 7.5, 2, 10, 'ms', 3, 'far away')
    assert [(r.against, r.ratio) for r in ratio_rows('x', {'ours': [1], 'bits': [2], 'them': [4]},
                                                     ours='bits')] == [('ours', .5), ('them', 2)]


# the scales

def test_what_is_kept_is_counted_once_and_only_while_it_is_needed():
    x = torch.randn(100, 100, requires_grad=True)
    size = x.nbytes
    near = lambda found, n: abs(found - n*size) < 1000
    assert near(saved_bytes(lambda: (1*x).exp()), 1)   # exp keeps its result, not its argument
    assert near(saved_bytes(lambda: (y := 1*x)*y + y*y), 1)   # one tensor, needed four times
    assert near(
        saved_bytes(lambda: (torch.randn(500, 500) @ torch.randn(500, 1)).sum() + x.sum()), 0)
    assert near(saved_bytes(lambda: torch.relu(1*x) + 1), 1)
    assert near(saved_bytes(lambda: x*x), 0)                              # it was there before
    def packed():
        with torch.autograd.graph.saved_tensors_hooks(lambda t: t > 0, lambda t: t.float()):
            return (1*x).square()
    assert near(saved_bytes(packed), 1/4)                                 # a byte for four


@pytest.mark.skipif(not races.STATUS.exists(), reason='the system does not tell')
def test_the_peak_is_that_of_the_call_alone():
    keep = torch.ones(2**24)
    torch.ones(2**25).sum()                                        # a higher peak before
    found = peak(lambda: (torch.ones(2**22).add_(1), torch.ones(2**22)))
    assert .9*2**25 < found < 1.3*2**25 and keep.sum() == 2**24


def environment(): return sorted(k for k in os.environ if k in work.ALLOCATOR_ENV)
def broken(): raise ValueError('no luck')

@pytest.mark.slow
def test_a_process_of_its_own_keeps_no_memory(monkeypatch):
    for k, v in work.ALLOCATOR_ENV.items(): monkeypatch.setenv(k, v)
    monkeypatch.setenv('PYTHONPATH', os.path.dirname(__file__))
    assert environment() and in_subprocess(environment) == []
    with pytest.raises(UserError, match='no luck'): in_subprocess(broken)


# the races

@in_release
def test_all_who_train_answer_alike():
    logits = {n: Runner(n, TINY, 'cpu').logits()
              for n in ('ours', 'bits', 'eager', 'spikingjelly', 'spikingjelly-best',
                        'spikingjelly-memopt')}
    assert (all(torch.allclose(v, logits['eager'], atol=1e-5) for v in logits.values()) and
            logits['eager'].std() > 0)
    ann = Runner('ann', TINY, 'cpu')
    assert (len(ann.x) == len(ann.logits()) == len(ann.y) == TINY.T*TINY.batch and
            torch.equal(ann.y[:TINY.batch], ann.y[TINY.batch:2*TINY.batch]))
    clips = Runner('ann', NETS['vgg'], 'cpu')
    assert torch.equal(clips.x, NETS['vgg'].images()[0].flatten(0, 1))


@pytest.mark.slow
@pytest.mark.parametrize('name', ('ours', 'bits', 'ann', 'spikingjelly', 'spikingjelly-memopt'))
def test_a_step_trains_and_a_look_does_not(name):
    c = Runner(name, TINY._replace(batch=16), 'cpu')
    losses = []
    for _ in range(8):
        losses.append(torch.nn.functional.cross_entropy(c.logits().detach(), c.y).item())
        c.step()
    assert losses[-1] < losses[0]
    before = [t.clone() for t in (*c.net.parameters(), *c.net.buffers())]
    assert not c.look().requires_grad and not c.net.training
    assert all(torch.equal(t, u) for t, u in zip(before, (*c.net.parameters(), *c.net.buffers())))


@in_release
def test_every_race_gives_its_rows():
    found = {}
    for name, run in {'train': partial(training, task=TINY),
                      'bf16': partial(training, task=TINY, precision='bf16',
                                      against=('spikingjelly', 'ann')),
                      'infer': partial(inference, task=NETS['vgg']),
                      'bits': partial(training, task=TINY, ours='bits', against=('ann',)),
                      'memory': partial(memory, task=TINY),
                      'data': partial(loading_race, task=TINY),
                      'lif': partial(neurons, shape=(3, 4, 5, 6, 7)),
                      'lif-bytes': partial(memory_lif, shape=(4, 8, 8, 8, 8)),
                      'peak': partial(peaks, task=TINY)}.items():
        found[name] = run(name, how=QUICK)
        for r in found[name]:
            assert r.id == name and 0 < r.low <= r.ratio <= r.high and r.ours > 0 and r.theirs > 0
    against = {k: [r.against for r in v] for k, v in found.items()}
    assert (against['train'] == ['spikingjelly', 'spikingjelly-best', 'ann', 'eager'] and
            against['bf16'] == ['spikingjelly', 'ann'] and against['bits'] == ['ann'])
    assert against['lif'] == ['eager', 'readable', 'spikingjelly', 'spikingjelly-compiled',
                              'copy-bandwidth'] and against['data'] == ['step']
    assert ({r.unit for k in ('memory', 'peak') for r in found[k]} <= {'bytes'} and
            all(r.ratio > 1 for r in found['memory'] if r.against in ('ann', 'spikingjelly')))


def test_the_programme_names_what_the_record_needs():
    ids = {h.id for h in programme()}
    assert {'lif-t4', 'lif-t10', 'lif-cache', 'memory-lif', 'train-resnet20-t4', 'train-vgg-t10',
            'train-resnet20-t4-bf16', 'train-vgg-t10-bf16', 'train-resnet20-t4-bits',
            'infer-resnet20-t4', 'infer-vgg-t10', 'memory-resnet20-t4', 'memory-resnet20-t4-bits',
            'memory-vgg-t10', 'memory-resnet19-t4', 'memory-sew-t4-bits',
            'peak-resnet20-t4', 'peak-resnet20-t4-bits', 'data-cifar10-like', 'grow-t8',
            'grow-batch64', 'grow-width2'} <= ids
    convolutions = [m for m in RESNET20.net().modules() if isinstance(m, torch.nn.Conv2d) and
                    m.kernel_size == (3, 3)]
    assert (len(convolutions) == 19 and
            [c.out_channels for c in convolutions[::6]] == [16, 16, 32, 64])


class Recorded:
    """In the place of SpikingJelly's graph, which wants a GPU, with its three phases: warm up,
    record on copies, copy and replay."""

    def __init__(self, function, warmup_steps):
        self.function, self.calls, self.inputs = function, 0, None

    def __call__(self, *inputs):
        self.calls += 1
        if self.calls == 1: return self.function(*inputs)
        if self.calls == 2:
            self.inputs = [x.detach().clone().requires_grad_(x.requires_grad) for x in inputs]
        for own, x in zip(self.inputs, inputs, strict=True): own.copy_(x)
        return self.function(*self.inputs)


@pytest.fixture
def on_gpu(monkeypatch):
    """A `BenchConfig` that says cuda where a device is asked for its kind, and the processor where
    work is done."""
    from spikingjelly.activation_based import _cuda_graph
    monkeypatch.setattr(_cuda_graph, 'StaticCudaGraph', Recorded)
    class Device(str):
        def startswith(self, kind): return kind == 'cuda'
    monkeypatch.setattr(gpu, 'inlined', lambda how: False)
    monkeypatch.setattr(gpu, 'race', lambda runs, how: {n: [run() is None or 1. for _ in range(4)]
                                                        for n, run in runs.items()})
    return QUICK._replace(device=Device('cpu'))


SMALL_SEW = gpu.Task(ThinSEWResNet18(channels=(16, 32), depths=(1, 1)), (3, 16, 16), 3, 4)

def test_on_a_gpu_spikingjelly_runs_as_a_graph_too(on_gpu):
    assert ([r.against for r in gpu.nodes('n', (4, 8, 64), on_gpu)] ==
            ['spikingjelly', 'spikingjelly-graph'])
    assert ([r.against for r in gpu.steps('s', SMALL_SEW, on_gpu, precision='float32')] ==
            ['bits', 'spikingjelly-triangle', 'ann', 'spikingjelly-graph'])


def test_a_replayed_step_trains_on_the_copied_images(on_gpu):
    plain, graph = (Runner('spikingjelly-triangle', SMALL_SEW, 'cpu') for _ in range(2))
    def step(x):
        graph.x = x
        graph.step()
    run = gpu.replayed(step, graph.x)
    for _ in range(4): plain.step(), run()
    assert graph.x is run.func.inputs[0] and all(torch.equal(p, q) for p, q in zip(
        plain.net.parameters(), graph.net.parameters(), strict=True))


@pytest.mark.slow
def test_the_races_of_a_gpu_give_their_rows_in_small():
    layers, nets = (gpu.nodes('n', (4, 8, 64), QUICK),
                    gpu.steps('s', SMALL_SEW, QUICK, precision='float32'))
    assert ([r.against for r in layers] == ['spikingjelly', 'spikingjelly-compiled'] and
            [r.against for r in nets] == ['bits', 'spikingjelly-triangle',
                                          'spikingjelly-triangle-compiled', 'ann'])
    assert all('of the spikes' in r.note for r in layers)
    for r in nets:
        assert (float(r.note.split()[1]) == pytest.approx(4e3/r.theirs, abs=.51) and
                float(r.note.split()[-1]) == pytest.approx(4e3/r.ours, abs=.51))
    heats = {h.id: h for h in programme() if h.group == 'gpu'}
    assert (heats['gpu-lif-t4'].run.keywords['shape'] == (4, 64, 65536) and
            heats['gpu-sew18-t4'].run.keywords['task'][1:4] == ((3, 224, 224), 4, 112))


@pytest.mark.parametrize('dtype, spikes, gradient',
                         ((torch.float64, 0, 1e-6), (torch.float32, 0, 1e-6),
                          (torch.float16, 2e-3, 2e-3), (torch.bfloat16, 2e-2, 2e-2)))
def test_a_wide_membrane_keeps_spikingjellys_kernels_and_our_gradient(dtype, spikes, gradient,
                                                                      monkeypatch):
    from spikingjelly._ops.lif import reference
    if dtype != torch.float64: monkeypatch.setattr(reference, 'multi_step', None)   # the plain loop
    x, grad = (torch.randn(4, 8, 512, generator=torch.Generator().manual_seed(s)).to(dtype)
               for s in (0, 1))
    s, g = gpu.spike_deviation(spikingjelly_triangle(TET_LIF), x, grad, TET_LIF)
    assert s <= spikes and g <= gradient
    assert gpu.spike_deviation(lambda x: (x > 5).to(x.dtype) + 0*x, x,
                               grad, TET_LIF)[1] == 1, 'no gradient at all'


def test_full_memory_is_one_line_and_keeps_what_was_found(refused, settled, monkeypatch, tmp_path):
    def full(id, how): raise torch.OutOfMemoryError('much')
    made_up(monkeypatch, Benchmark('neurons', 'a', one), Benchmark('neurons', 'b', full))
    assert "b: the GPU's memory is full" in refused('bench', 'neurons', '--json', tmp_path/'r.json')
    assert [r['id'] for r in json.loads((tmp_path/'r.json').read_text())['rows']] == ['a']


# the verb

@pytest.fixture
def settled(monkeypatch):
    "As if this process had been started by `settle`."
    for k, v in work.ALLOCATOR_ENV.items(): monkeypatch.setenv(k, v)


def made_up(monkeypatch, *heats): monkeypatch.setattr(benches, 'programme', lambda: list(heats))

def one(id, how, ratio=2.):
    return [BenchRow(id, 'them', ratio, ratio, ratio, 1., ratio, 'ms', how.repeats, 'a remark')]


def test_the_process_starts_again_with_its_allocator(monkeypatch):
    calls = []
    monkeypatch.setattr(os, 'execve', lambda *a: calls.append(a))
    monkeypatch.setattr(sys, 'orig_argv', ['python', '-m', 'snn_repro', 'bench', 'data'])
    for k in work.ALLOCATOR_ENV: monkeypatch.delenv(k, raising=False)
    work.reexec_with_allocator()
    (program, argv, env), = calls
    assert (program == argv[0] == sys.executable and
            argv[1:] == ['-m', 'snn_repro', 'bench', 'data'] and
            work.ALLOCATOR_ENV.items() <= env.items())
    for k, v in work.ALLOCATOR_ENV.items(): monkeypatch.setenv(k, v)
    work.reexec_with_allocator()
    assert len(calls) == 1


def test_the_verb_prints_and_writes_each_group(cli, settled, monkeypatch, tmp_path):
    file, states = tmp_path/'new'/'record.json', []
    def look(id, how):
        states.append(len(json.loads(file.read_text())['rows']) if file.exists() else None)
        return one(id, how)
    made_up(monkeypatch, Benchmark('neurons', 'a', one), Benchmark('neurons', 'b', one),
            Benchmark('data', 'c', look), Benchmark('growth', 'd', one))
    code, out, _ = cli('bench', '--repeats', '3', '--threads', '1', '--json', file)
    assert (code == 0 and states == [2] and
            [l.split()[0] for l in out.splitlines() if 'them ' in l and 'remark' not in l] ==
            ['a', 'b', 'c'] and out.count('them: a remark') == 2)
    written = json.loads(file.read_text())
    assert ([r['id'] for r in written['rows']] == ['a', 'b', 'c'] and
            written['rows'][0] == dict(one('a', BenchConfig(repeats=3))[0]._asdict()))
    assert (written['threads'] == 1 and written['device'] == 'cpu' and
            written['allocator'].startswith('MALLOC_MMAP_MAX_=0') and
            written['versions']['spikingjelly'])
    assert [l.split()[0] for l in cli('bench', 'growth', 'b')[1].splitlines() if 'them ' in l and
            'remark' not in l] == ['b', 'd']


class Terminal(io.StringIO):
    def isatty(self): return True


def test_what_is_told_stands_in_lines_of_its_own(settled, monkeypatch):
    made_up(monkeypatch, Benchmark('neurons', 'a', one), Benchmark('data', 'b', one))
    screen = Terminal()
    for stream in ('stdout', 'stderr'): monkeypatch.setattr(sys, stream, screen)
    assert main(['bench']) == 0
    shown = [l.rpartition('\r')[2] for l in screen.getvalue().splitlines()]
    assert sum('race/s' in l for l in screen.getvalue().split('\r')) > 1, 'there was a bar'
    assert sum(l.startswith('race ') for l in shown) == 2, shown


def test_slow_bfloat16_is_left_out_unless_it_is_named(cli, settled, monkeypatch):
    made_up(monkeypatch, Benchmark('training', 'net', one), Benchmark('training', 'net-bf16', one))
    for fast, args, ran in ((False, ['training'], ['net']), (False, ['net-bf16'], ['net-bf16']),
                            (True, ['training'], ['net', 'net-bf16'])):
        monkeypatch.setattr(benches, 'has_bf16', lambda device: fast)
        out = cli('bench', *args)[1]
        assert ([l.split()[0] for l in out.splitlines() if 'them ' in l and 'remark' not in l] ==
                ran and ('Left out' in out) == (len(ran) == 1 and ran == ['net']))


def test_peers_that_are_not_installed_are_named_in_a_line(cli, settled, monkeypatch):
    monkeypatch.setattr(benches, 'installed', lambda: {'sinabs': '3'})
    made_up(monkeypatch, Benchmark('neurons', 'a', one))
    assert ('Not installed: norse, snntorch (pip install "snn-repro[bench]")\n' in
            cli('bench', '--peers')[1] and 'Not installed' not in cli('bench')[1])


@pytest.mark.parametrize('args, said', [
    (['neuron'], "unknown race 'neuron' (choose from neurons, training, inference, memory, "
     "objectives, data, growth, gpu)"),
    (['gpu'], 'as large as a GPU (add --device cuda)'), (['gpu-lif-t4'], 'add --device cuda'),
    (['--repeats', '0'], '--repeats is 0 (choose 1 or more)'),
    (['--threads', '0'], 'choose 1 or more'),
    (['data', '--device', 'abacus'], "device 'abacus'"),
    (['data', '--json', '.'], 'this is a folder'),
    (['data', '--json', os.path.join(__file__, 'record.json')], 'choose another folder'),
    (['--fast'], '--help')])
def test_a_mistake_is_one_line(refused, settled, args, said): assert said in refused('bench', *args)


def test_ctrl_c_is_quiet_and_keeps_what_was_found(cli, settled, monkeypatch, tmp_path, capsys):
    def stop(id, how): raise KeyboardInterrupt
    made_up(monkeypatch, Benchmark('neurons', 'a', one), Benchmark('data', 'b', stop))
    with pytest.raises(SystemExit) as end: cli('bench', '--json', tmp_path/'r.json')
    said = capsys.readouterr()
    assert end.value.code == 130 and 'Traceback' not in said.err and 'goes on' not in said.err
    assert [r['id'] for r in json.loads((tmp_path/'r.json').read_text())['rows']] == ['a']


@pytest.mark.slow
def test_from_the_shell(tmp_path):
    env = {k: v for k, v in os.environ.items() if k not in work.ALLOCATOR_ENV}
    done = subprocess.run([sys.executable, '-m', 'snn_repro', 'bench', 'memory-lif', '--threads',
                           '1', '--json', 'r.json'], cwd=tmp_path, env=env, capture_output=True,
                          text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path/'r.json').read_text())
    assert written['allocator'].startswith('MALLOC_MMAP_MAX_=0') and 'spikingjelly' in done.stdout
    assert (all(r['ours'] <= 4.01 for r in written['rows']) and
            {r['against']: round(r['theirs']) for r in written['rows']}['readable'] == 7)
    wrong = subprocess.run([sys.executable, '-m', 'snn_repro', 'bench', 'nothing'], cwd=tmp_path,
                           env=env, capture_output=True, text=True, timeout=300)
    assert wrong.returncode == 1 and wrong.stderr.count('\n') == 1
