"""Operations against shapes, loops and SpikingJelly's counter; energy as a function of the record;
old records without `sure`."""
from dataclasses import replace
from math import prod

import pytest
import torch
from torch import nn
from spikingjelly.activation_based.op_counter import ACCounter, DispatchCounterMode, MACCounter

from snn_repro.core.spec import UserError
from snn_repro.data.images import CIFAR10
from snn_repro.experiments.papers import enof_experiment
from snn_repro.experiments.tiers import TIERS
from snn_repro.metrics.energy import PICOJOULES, energy, operations
from snn_repro.models.resnet20 import EnofResNet20
from snn_repro.models.small import SmallResNet, SmallSEW, SmallVGG
from snn_repro.nn.neurons import ENOF_LIF
from snn_repro.records.runs import Runs, check_part, open_run, pack_records
from snn_repro.training.fit import fit
from snn_repro.training.operations import operations_by_layer, count_operations, with_operations

T, SHAPE = 3, (3, 16, 16)
ARCHS = {'vgg': SmallVGG(neuron=ENOF_LIF), 'resnet': SmallResNet(neuron=ENOF_LIF),
         'sew': SmallSEW(neuron=ENOF_LIF), 'tebn': SmallVGG(neuron=ENOF_LIF, norm='tebn'),
         'enof': EnofResNet20(neuron=ENOF_LIF, channels=(4, 8), depths=(1, 1))}
ARCHS |= ({f'{n} relu': replace(a, readout='relu') for n, a in ARCHS.items()} |
          {'resnet ann': SmallResNet().ann()})


def net_and_images(arch, steps=T):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net, x = arch.build(SHAPE, 10, steps), torch.rand(6, *SHAPE)
        with torch.no_grad():
            for _ in range(20): net(x)
    return net.eval(), x


def inputs_of(net, x):
    "What each convolution and linear layer reads, and its output's shape."
    seen = {}
    named = {n: m for n, m in net.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))}
    hooks = [m.register_forward_hook(lambda m, i, o, n=n: seen.update({n: (m, i[0], o.shape)}))
             for n, m in named.items()]
    with torch.no_grad(): net(x)
    for h in hooks: h.remove()
    return seen


@pytest.mark.parametrize('name', ARCHS)
def test_counts_from_shapes_and_spikes(name):
    net, x = net_and_images(ARCHS[name])
    found, seen = operations_by_layer(net, x, batch=len(x)), inputs_of(net, x)
    assert set(found) == {*seen, 'sums', 'neurons'}
    for layer, (m, read, out) in seen.items():
        per_place = prod(m.weight.shape[1:])
        dense = prod(out) * per_place / len(x)
        if not ((read == 0) | (read == 1)).all(): assert found[layer][:2] == [dense, 0], layer
        else:
            kernel = torch.ones_like(m.weight)
            with torch.no_grad():
                met = (nn.functional.conv2d(read, kernel, None, m.stride, m.padding)
                       if read.dim() == 4 else nn.functional.linear(read, kernel))
            assert (found[layer] ==
                    [0] + 2*[pytest.approx(met.double().sum().item() / len(x))]), layer
            assert 0 < found[layer][1] < dense


@pytest.mark.parametrize('name', ARCHS)
def test_all_that_spikingjelly_counts_and_nothing_else_but_the_neurons(name):
    net, x = net_and_images(ARCHS[name])
    counters = [MACCounter(extra_ignore_modules=[nn.BatchNorm2d]),
                ACCounter(extra_ignore_modules=[nn.BatchNorm2d])]
    with torch.no_grad(), DispatchCounterMode(counters): net(x)
    found = operations_by_layer(net, x, batch=len(x))
    neurons, _, _ = found.pop('neurons')
    assert ([sum(v) * len(x) for v in list(zip(*found.values()))[:2]] ==
            pytest.approx([c.get_total() for c in counters]))
    assert (neurons > 0) == ('ann' not in name) and found['sums'][0] == 0


def test_averages_are_added_as_the_spikes_before_them():
    net, x = net_and_images(ARCHS['vgg'])
    seen, found = inputs_of(net, x), operations_by_layer(net, x, batch=len(x))
    m, read, _ = seen['body.1.1']
    spikes = (4 * read).round()
    by_loop = 0
    for b, c, i, j in spikes.nonzero().tolist():
        reach = len({i - 1, i, i + 1} & set(range(8))) * len({j - 1, j, j + 1} & set(range(8)))
        by_loop += int(spikes[b, c, i, j]) * reach * m.out_channels
    assert found['body.1.1'] == [16 * 8 * 9 * 8 * 8 * T, 0, pytest.approx(by_loop / len(x))]


def test_the_first_layer_runs_once_for_an_image_and_at_each_step_of_a_clip():
    net, _ = net_and_images(ARCHS['vgg'])
    image, clip = torch.rand(4, *SHAPE), torch.rand(5, 4, *SHAPE)
    once, all_steps = (operations_by_layer(net, x)['stem.0'][0] for x in (image, clip))
    assert all_steps == 5 * once == 5 * 27 * 8 * 16 * 16
    for x in (image, clip):
        four, one = (operations_by_layer(net, x, batch=n)['stem.0'] for n in (4, 1))
        assert four == one


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    home = tmp_path_factory.mktemp('runs')
    e = TIERS['mini'].scale(enof_experiment(CIFAR10(), 'ResNet-20', 2, repact=True))
    e = replace(e, recipe=replace(e.recipe, epochs=1, test_every=1))
    return fit(e, home), home


def test_a_run_is_counted_from_its_folder_and_survives_packing(run, tmp_path):
    record, home = run
    found = with_operations(record, home / record.id)
    assert found.metrics['operations'] == count_operations(home / record.id)
    again = Runs(pack_records([found], tmp_path / 'packed')).find(record.id)
    assert (operations(again) == operations(found) and
            energy(again) == energy(found) > energy(again, merged=True))
    assert with_operations(again, 'nowhere') is again
    assert operations(again, 'classifier') == {'mac': 2 * 32 * 9 * 10, 'ac': 0}


def test_energy_is_the_sum_of_its_parts_at_the_printed_prices(run):
    record = with_operations(run[0], run[1] / run[0].id)
    n = operations(record)
    assert (energy(record) == pytest.approx((4.6 * n['mac'] + .9 * n['ac']) / 1e6) and
            PICOJOULES == {'mac': pytest.approx(4.6), 'ac': .9})
    assert (energy(record) ==
            pytest.approx(sum(energy(record, layer) for layer in record.metrics['operations'])))


def test_a_record_without_operations_says_so(run):
    record = replace(run[0], metrics={k: v for k, v in run[0].metrics.items() if k != 'operations'})
    with pytest.raises(UserError, match='not counted'): energy(record)
    with pytest.raises(UserError, match='no layer'):
        energy(with_operations(record, run[1] / record.id), 'stem')
    with pytest.raises(UserError, match='not finished'): count_operations(run[1])


def test_outcomes_of_old_packed_records_are_read(run, tmp_path):
    old = {k: v for k, v in run[0].outcomes.items() if k != 'sure'}
    assert check_part('outcomes', old) is old and 'sure' in open_run(run[1] / run[0].id).outcomes
    for bad in (run[0].outcomes['sure'][:-1], run[0].outcomes['sure'].astype('f4'),
                run[0].outcomes['sure'].astype('u2')):
        with pytest.raises(UserError): check_part('outcomes', old | {'sure': bad})
    packed = Runs(pack_records([run[0]], tmp_path / 'packed', sure=[run[0].id])).find(run[0].id)
    assert (packed.outcomes['sure'] == run[0].outcomes['sure']).all()


def test_the_twin_in_the_exhibit_is_the_teacher():
    student = enof_experiment(CIFAR10(), 'ResNet-20', 4, 'L_AF')
    for tier in ('mini', 'small'):
        assert TIERS[tier].scale(student.teacher) == TIERS[tier].scale(student).teacher
