"""Several processes, one run: gradients, statistics, evaluation, records, and what happens when one
of them dies."""
import json, os, signal, subprocess, sys, time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from conftest import NAME, power_cut
from snn_repro.analysis.exhibits import asked
from snn_repro.core.distributed import in_team, spawn, synchronised, team
from snn_repro.core.files import locked
from snn_repro.core.spec import UserError, variant
from snn_repro.experiments.tiers import find_tier
from snn_repro.losses.laf import LAF
from snn_repro.losses.objectives import CE, TET
from snn_repro.nn import kernels
from snn_repro.nn.neurons import LIFNode
from snn_repro.training.checkpoint import FOLDER
from snn_repro.training.environment import Runtime, load_split
from snn_repro.training.fit import fit
from snn_repro.training.loop import FrozenANN, build, evaluate, optimizer, train_steps

pytestmark = pytest.mark.slow

MINI = asked(NAME, find_tier('mini'))[1]
EVENTS = asked('tks-table3-dvs-cifar10-vgg-snn-tks', find_tier('mini'))[1]
SHORT = replace(MINI, recipe=replace(MINI.recipe, epochs=2))
FILES = ('config.json', 'history.csv', 'outputs.safetensors', 'features.safetensors',
         'metrics.json', 'weights.safetensors')


def bytes_of(folder): return {n: (folder/n).read_bytes() for n in FILES}


def gradients(e, training: bool, sync=True):
    "All gradients and running statistics of one step in float64, in this process's team."
    dist, (split, _) = team(), load_split(e.data, None, e.seed, e.T)
    torch.set_default_dtype(torch.float64)
    try:
        net, teacher = (build(e, split).double(),
                        FrozenANN(build(e.teacher, split).double()) if e.teacher else None)
        for n in (net, teacher.net) if teacher else (net,):
            for p in n.parameters(): p.data *= 4 if p.ndim > 1 else 1          # awake in test mode
        if sync: net = synchronised(net, dist)
        train = net.train
        net.train = lambda mode=True: train(training and mode)
        data = type(split.train)(split.train.x, split.train.y, split.train.mean, split.train.std)
        data.ready = lambda x: split.train.ready(x).double()
        parts, right, seen = next(
            train_steps(e, net, data, optimizer(net, replace(e.recipe, lr=1e-9)), 5, teacher, dist))
    finally: torch.set_default_dtype(torch.float32)
    assert seen == e.recipe.batch
    found = ({n: p.grad for n, p in net.named_parameters()} |
             {n: b for n, b in net.named_buffers() if 'running' in n})
    return (found | {f'loss {k}': v for k, v in parts.items()} |
            {'right': torch.tensor(float(right))})


def several(cases, sync): return [gradients(*c, sync) for c in cases]


def difference(a, b):
    return max(((a[n] - b[n]).abs().max()/b[n].abs().max().clamp(min=1e-12)).item() for n in b)


SETTINGS = {
    'TKS': MINI, 'the text of TKS': variant(MINI, 'paper'),
    'TET': replace(MINI, objective=(TET(mse_weight=.1),)),
    'L_AF and RepAct': replace(MINI, objective=(CE(), LAF()),
                               arch=replace(MINI.arch, readout='relu')), 'events': EVENTS,
    'TEBN': replace(EVENTS, arch=replace(EVENTS.arch, norm='tebn')),
    'micro batches': replace(MINI, recipe=replace(MINI.recipe, micro_batch=10))}


def test_two_processes_give_the_gradients_of_one():
    cases = [(e, training) for e in SETTINGS.values() for training in (False, True)]
    alone, shared = several(cases, True), spawn(2, several, cases, True)
    for case, name, one, *two in zip(cases, [n for n in SETTINGS for _ in 'ab'], alone, *shared):
        assert all(g.any() for k, g in one.items() if 'weight' in k and 'running' not in k), name
        for t in two: assert difference(t, one) < 1e-6, (name, case[1])
    one, (two, _) = several(cases[1:2], False)[0], spawn(2, several, cases[1:2], False)
    assert difference(two[0], one) > .01   # each its own statistics: another training


def answers(e, n):
    dist, (split, _) = team(), load_split(e.data, None, e.seed, e.T)
    few = type(split.test)(split.test.x[:n], split.test.y[:n])
    return evaluate(build(e, split), few, 20, dist)


def test_every_test_image_is_seen_once_and_in_order():
    one, (first, second) = answers(MINI, 51), spawn(2, answers, MINI, 51)
    for two in (first, second):
        assert two['logits'].shape == (51, 4, 10) and (two['labels'] == one['labels']).all()
        assert (abs(two['logits'] - one['logits']).max() < 1e-4 and
                abs(two['features'] - one['features']).max() < 1e-4)
        assert (two['rates'].keys() == one['rates'].keys() and
                all(abs(two['rates'][k] - one['rates'][k]) < 1e-4 for k in one['rates']))


def with_a_broken_share(e):
    from snn_repro.training import loop as epochs
    dist, fetch = team(), epochs.fetch_batch
    def broken(*a):
        if dist.rank == 1: raise UserError('this image cannot be read', 'n01/b.jpg')
        return fetch(*a)
    epochs.fetch_batch = broken
    gradients(e, True)


def test_a_file_that_one_process_cannot_read_ends_all_with_its_name():
    with pytest.raises(UserError, match='n01/b.jpg: this image cannot be read'):
        spawn(2, with_a_broken_share, MINI)


@pytest.fixture(scope='module')
def pair(tmp_path_factory):
    "A short run of two processes, in peace: (its experiment, its record, its folder)."
    out = tmp_path_factory.mktemp('pair')
    record = fit(SHORT, out, Runtime(processes=2))
    return SHORT, record, out/SHORT.id


def test_a_run_of_two_processes_is_a_record_like_any_other(pair, tmp_path):
    e, two, folder = pair
    one = fit(e, tmp_path)
    assert ((two.env['processes'], one.env['processes']) == (2, 1) and two.id == one.id and
            not in_team())
    assert (sorted(p.name for p in folder.iterdir()) ==
            sorted(p.name for p in (tmp_path/e.id).iterdir()))
    first = [r.history.iloc[0] for r in (one, two)]
    assert abs(first[0].ce - first[1].ce) < 1e-3 and abs(first[0].train - first[1].train) < .03


def test_accelerate_launch_gives_the_same_bytes(pair, tmp_path):
    e, _, folder = pair
    launch = [sys.executable, '-m', 'accelerate.commands.launch', '--multi_gpu', '--num_processes',
              '2', '--num_machines', '1', '--mixed_precision', 'no', '--dynamo_backend', 'no',
              '--main_process_port', '0', '-m', 'snn_repro']
    command = [*launch, 'run', NAME, '--set', 'recipe.epochs=2', '--out', str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads((tmp_path/e.id/'env.json').read_text())['processes'] == 2
    assert done.stdout.count('top1') == 1 and bytes_of(tmp_path/e.id) == bytes_of(folder)


def members(pid):
    return [int(p) for p in subprocess.run(['pgrep', '-P', str(pid), '-f', 'spawn_main'],
                                           capture_output=True, text=True).stdout.split()]


def steps_of(folder: Path) -> int:
    counts = []
    for p in folder.glob(f'{FOLDER}/?.json'):
        try: counts.append(json.loads(p.read_text())['count'])
        except (ValueError, FileNotFoundError): pass
    return max(counts, default=0)


def start(out, *more):
    command = [sys.executable, '-m', 'snn_repro', 'run', NAME, '--set', 'recipe.epochs=2', '--out',
               str(out), '--processes', '2', '--checkpoint', '0', *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(what, seconds=120):
    end = time.time() + seconds
    while not what() and time.time() < end: time.sleep(.005)
    assert what(), 'it did not happen in time'


@pytest.mark.parametrize('rank', [0, 1])
def test_a_member_that_dies_ends_the_run_in_one_line_and_the_same_command_goes_on(pair,
                                                                                  tmp_path, rank):
    e, _, folder = pair
    job = start(tmp_path)
    wait_for(lambda: steps_of(tmp_path/e.id) >= 3)
    theirs = members(job.pid)
    assert len(theirs) == 2
    os.kill(theirs[rank], signal.SIGKILL)
    _, err = job.communicate(timeout=60)
    lines = [l for l in err.splitlines() if l.startswith('snn-repro')]
    assert (job.returncode == 1 and len(lines) == 1 and 'SIGKILL' in lines[0] and
            'goes on' in lines[0] and 'Traceback' not in err), err
    assert not any(Path(f'/proc/{p}').exists() for p in theirs) and steps_of(tmp_path/e.id) >= 3
    fit(e, tmp_path, Runtime(processes=2))
    assert bytes_of(tmp_path/e.id) == bytes_of(folder)


def test_members_end_with_the_process_that_started_them(tmp_path):
    job = start(tmp_path, '--set', 'recipe.epochs=2000')
    wait_for(lambda: len(members(job.pid)) == 2 and list(tmp_path.glob(f'*/{FOLDER}/?.json')))
    theirs = members(job.pid)
    job.kill()
    job.wait()
    wait_for(lambda: not any(Path(f'/proc/{p}').exists() for p in theirs), 60)


def test_a_team_says_what_is_wrong_once(tmp_path, refused):
    run = ('run', NAME, '--out', tmp_path, '--processes')
    assert '3 processes cannot share 40 images equally' in refused(*run, 3)
    if not torch.cuda.is_available():
        assert '0 GPUs can be used here, a process needs one each' in refused(*run, 2,
                                                                              '--device', 'cuda')
    folder = tmp_path/MINI.id
    folder.mkdir(exist_ok=True)   # a run that was refused leaves none
    with locked(folder): assert 'another process is at this run' in refused(*run, 2)
    wild = refused(*run, 2, '--checkpoint', 0, '--set', 'recipe.optimizer="sgd"', '--set',
                   'recipe.lr=1e30')
    assert 'in epoch 0' in wild and 'checkpoint' in wild and 'lower recipe.lr' in wild
    assert not list(tmp_path.glob('*/done.json')) and not list(tmp_path.glob('*/lock'))


def test_bfloat16_is_exact_after_a_kill_and_nearly_as_good(tmp_path):
    half = replace(MINI, recipe=replace(MINI.recipe, precision='bf16'))
    assert half.id != MINI.id
    record = fit(half, tmp_path/'peace')
    with power_cut(after=23): fit(half, tmp_path/'cut', Runtime(checkpoint=0))
    fit(half, tmp_path/'cut')
    assert bytes_of(tmp_path/'peace'/half.id) == bytes_of(tmp_path/'cut'/half.id)
    assert record.metrics['top1'] > .6


def test_the_membrane_is_float32_in_a_bfloat16_net():
    split, _ = load_split(MINI.data, None, 0, MINI.T)
    net, seen = build(MINI, split), []
    membranes = kernels._membranes
    def watch(x, *rest):
        a = membranes(x, *rest)
        seen.append((x.dtype, a.dtype))
        return a
    kernels._membranes = watch
    try:
        e = replace(MINI, recipe=replace(MINI.recipe, precision='bf16'))
        next(train_steps(e, net, split.train, optimizer(net, e.recipe), 0))
    finally: kernels._membranes = membranes
    layers = [m for m in net.modules() if isinstance(m, LIFNode)]
    assert len(seen) == len(layers) and all(s == (torch.float32, torch.float32) for s in seen)
    assert all(p.dtype == p.grad.dtype == torch.float32 for p in net.parameters())


def test_a_dead_layer_is_named(tmp_path):
    deaf = replace(SHORT,
                   arch=replace(SHORT.arch, neuron=replace(SHORT.arch.neuron, v_threshold=1e6)))
    with pytest.warns(UserWarning, match=r'layer body\.0 sent no spike in a whole epoch'):
        fit(deaf, tmp_path)


def test_tensorboard_holds_the_history_also_after_a_kill(tmp_path, pair):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    board = tmp_path/'board'
    e = replace(SHORT, recipe=replace(SHORT.recipe, epochs=4))
    with power_cut(after=12): fit(e, tmp_path/'runs', Runtime(checkpoint=0, tensorboard=board))
    record = fit(e, tmp_path/'runs', Runtime(tensorboard=board))
    read = EventAccumulator(str(board/e.id)).Reload()
    for column in ('lr', 'ce', 'tks', 'train'):
        events = read.Scalars(column)
        assert [s.step for s in events] == [0, 1, 2, 3]
        assert all(abs(s.value - v) <= 1e-5*max(1, abs(v))
                   for s, v in zip(events, record.history[column]))
