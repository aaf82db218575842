"""What is wrong with the evidence is told, a line for each fault; the ledger only grows; the
numbers come out again when computed another way."""
import copy, json, math, shutil, subprocess
from itertools import cycle, groupby
from pathlib import Path

import numpy as np
import pytest

import packed
from snn_repro.analysis.verify import BENCH, ROW, _scores
from snn_repro.core.files import SEAL, seal
from snn_repro.core.spec import UserError
from snn_repro.metrics.classification import outcomes, summary
from snn_repro.records.ledger import LEDGER, enter, enter_pack, hours, read_ledger, run_of, standing
from snn_repro.records.runs import PACKED, RECORDS, SCHEMA, Runs, pack_records

root = Path(__file__).parents[1]
results = root/'results'


@pytest.fixture(scope='module')
def committed(): return Runs(results/'mini')


@pytest.fixture(scope='module')
def few(committed):
    "A teacher and two of its students for each of two seeds, by id."
    students = [r for r in committed if 'teacher' in r.env and r.seed < 2 and
                r.config['data']['type'] == 'Digits']
    students = [r for r in students if r.config['T'] == students[0].config['T']]
    taught = {s: [r for r in students if r.seed == s][:2] for s in range(2)}
    teachers = [committed.find(t.env['teacher']['id']) for t, _ in taught.values()]
    return [*teachers, *(r for two in taught.values() for r in two)]


@pytest.fixture
def evidence(few, tmp_path):
    """A small folder of evidence in which nothing is wrong; the record in its last line is that of
    a student."""
    drawn = [r.id for r in few if r.features is not None]
    pack_records(few, tmp_path/'results/mini', features=drawn)
    enter_pack(tmp_path/'results/mini', 'mini')
    return tmp_path/'results'


@pytest.fixture
def faults(cli):
    "`faults(folder)`: the lines that tell what is wrong, without their beginning."
    def call(folder):
        code, out, err = cli('verify', folder)
        assert (code == bool(err) and all(l.startswith('wrong: ') for l in err[:-1]) and
                'Traceback' not in out)
        n = len(err[:-1])
        assert not err or err[-1] == f'snn-repro: {folder}: {n} thing{"s"[:n != 1]} wrong'
        return [l.removeprefix('wrong: ') for l in err[:-1]]
    return call


def record(evidence, change, at=-1):
    "Change a line of the records as plain data, and seal the folder again."
    lines = packed.lines(evidence/'mini')
    change(lines[at])
    packed.write_lines(evidence/'mini', lines)


def arrays(evidence, name, change):
    "Change an array of the last record's outcomes, and seal the folder again."
    file = evidence/'mini/outcomes.npz.xz'
    held = packed.arrays(file)
    key = [k for k in held if k.endswith(f'/{name}')][-1]
    held[key] = change(held[key])
    packed.write_arrays(file, held)


def flip(file, at=-12):
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)


# What is committed

def test_the_committed_evidence_holds(cli):
    code, out, err = cli('verify', results)
    assert ((code, err) == (0, []) and 'results/mini' in out and 'final' in out and
            out.count('nothing') >= 3)


def test_the_ledger_was_only_added_to():
    def git(*a):
        return subprocess.run(['git', '-C', root, *a], capture_output=True, check=True).stdout

    try: commits = git('log', '--format=%h', '--', 'results/ledger.csv').decode().split()
    except (OSError, subprocess.CalledProcessError): pytest.skip('this is no checkout')
    if not commits: pytest.skip('the ledger is not committed yet')
    versions = [(results/LEDGER).read_bytes(),
                *(git('show', f'{c}:results/ledger.csv') for c in commits)]
    for later, earlier in zip(versions, versions[1:]): assert later.startswith(earlier)


def test_an_untouched_copy_has_no_faults(evidence, faults):
    assert faults(evidence) == faults(evidence/'mini') == []


# Numbers computed a second time, without the library

def by_hand(o):
    "A run's numbers by counting image by image."
    N, T = o['step'].shape
    label = o['label'].tolist()
    answers = {kind: [[int(a) == l for a, l in zip(o[kind][:, t], label)] for t in range(T)]
               for kind in ('prefix', 'step')}
    right = answers['prefix'][-1]
    found = ({k: [sum(a)/N for a in v] for k, v in answers.items()} |
             {'top1': sum(right)/N, 'top5': sum(r < 5 for r in o['rank'].tolist())/N})
    found |= {'aurc': area(groups(o, 'max_logit', right)),
              'aurc_softmax': area(groups(o, 'max_softmax', right))}
    found['e_aurc'] = found['aurc'] - area([not r] for r in sorted(right, reverse=True))
    return found | {'ece': math.fsum(map(abs, gaps(o, right)))/N}


def groups(o, score, right):
    "Whether each answer is wrong, surest first, those of equal confidence together."
    if f'{score}_order' in o:
        wrong, tied = (''.join(f'{byte:08b}' for byte in row.tolist())[:len(right)]
                       for row in o[f'{score}_order'])
        starts = [i for i, t in enumerate(tied) if t == '0'] + [len(right)]
        return [[w == '1' for w in wrong[a:b]] for a, b in zip(starts, starts[1:])]
    s = o[score].tolist()
    order = sorted(range(len(s)), key=lambda i: -s[i])
    return [[not right[i] for i in group] for _, group in groupby(order, key=lambda i: s[i])]


def gaps(o, right):
    "In each of fifteen bins, confidences less right answers."
    if 'calibration' in o: return o['calibration'].tolist()
    bins = {}
    for p, r in zip(o['max_softmax'].tolist(), right):
        bins.setdefault(max(1, math.ceil(p*15)), []).append(p - r)
    return [math.fsum(b) for b in bins.values()]


def area(groups):
    """The mean over k of the error among the k surest; within a group of equals the errors are
    spread evenly."""
    risks, before, errors = [], 0, 0.
    for group in groups:
        share = sum(group)/len(group)
        for k in range(1, len(group) + 1): risks.append((errors + share*k)/(before + k))
        before, errors = before + len(group), errors + share*len(group)
    return math.fsum(risks)/len(risks)


NEAR = {'ece': 1e-7}   # the library takes the gap of confidence and answer in float32


def close(a, b, within):
    return np.shape(a) == np.shape(b) and np.abs(np.subtract(a, b)).max() <= within


def test_the_published_numbers_come_out_by_counting(committed):
    chosen = list(committed)[::67] + [r for p in ('full', 'small') if (results/p).exists()
                                      for r in list(Runs(results/p))[:1]]
    assert len(chosen) >= 6
    for r in chosen:
        for k, v in by_hand(r.outcomes).items():
            assert close(r.metrics[k], v, NEAR.get(k, 1e-12)), (r.id, k)


def test_counting_and_the_library_agree_from_logits_with_ties():
    rng = np.random.default_rng(0)
    logits, labels = rng.integers(-2, 3, (300, 3, 7)).astype('float32'), rng.integers(0, 7, 300)
    o, means = outcomes(logits, labels), logits.astype(float).cumsum(1) / np.arange(1, 4)[:, None]
    for i, l in enumerate(labels):
        first = lambda v: v.index(max(v))
        assert ([first(m) for m in means[i].tolist()] == o['prefix'][i].tolist() and
                [first(s) for s in logits[i].tolist()] == o['step'][i].tolist())
        assert o['rank'][i] == sum(v >= means[i, -1, l] for v in means[i, -1]) - 1
    for k, v in by_hand(o).items(): assert close(summary(o)[k], v, NEAR.get(k, 1e-12)), k


# What is wrong is told

CHANGES = {
    'top1': (lambda d: d['metrics'].update(top1=d['metrics']['top1'] + .001),
             ['top1 is', 'the last test of its history'], 2),
    'aurc': (lambda d: d['metrics'].update(aurc=d['metrics']['aurc'] + 1e-11),
             ['aurc is', 'its outcomes give'], 1),
    'aurc_softmax': (lambda d: d['metrics'].update(aurc_softmax=0.),
                     ['aurc_softmax is 0.0, its outcomes give'], 1),
    'no top5': (lambda d: d['metrics'].pop('top5'), ["top5 is 'missing'"], 1),
    'ece as text': (lambda d: d['metrics'].update(ece='0.1'), ["ece is '0.1'"], 1),
    'e_aurc without a value': (lambda d: d['metrics'].update(e_aurc=math.nan),
                               ['e_aurc is nan'], 1),
    'prefix': (lambda d: d['metrics']['prefix'].__setitem__(0, .5), ['prefix 1 is 0.5'], 1),
    'step': (lambda d: d['metrics']['step'].append(.5), ['its outcomes give none'], 1),
    'history':
    (lambda d: d.update(history=d['history'].replace(str(d['metrics']['top1']), '0.123')),
     ['the last test of its history 0.123'], 1),
    'a lost epoch': (lambda d: d.update(history='\n'.join([*d['history'].splitlines()[:3],
                                                           *d['history'].splitlines()[4:]])),
                     ['its history has not the epochs 0 to'], 1),
    'seed': (lambda d: d['config'].update(seed=1 + d['config']['seed']),
             ['its setting is another than its name says', 'that of its setting'], 2),
    'setting': (lambda d: d['config']['recipe'].update(lr=.5),
                ['its setting is another than its name says'], 1),
    'a name that no terminal prints':
    (lambda d: d['metrics'].update({'\ud800\x1b[2J': 1., 'top5': None}), ['top5 is None'], 1),
    'T': (lambda d: d['config'].update(T=9), ['its setting is another', 'its setting has 9'], 2),
    'another teacher': (lambda d: d['env']['teacher'].update(id='mine-s0-0123456789'),
                        ['is missing', 'that of its setting'], 2),
    'no teacher': (lambda d: d['env'].pop('teacher'), ['its teacher is None'], 1),
    "another teacher's weights": (lambda d: d['env']['teacher'].update(weights='0'*64),
                                  ['name 2 different weights'], 1),
    'other data': (lambda d: d['env'].update(data='0'*64), ['saw other data than'], 1),
    'a word for a number': (lambda d: d['metrics'].update(top1='0.9'), ['expected float'], 1),
    'commit': (lambda d: d['env'].update(commit='0'*12),
               ['not in', 'is final, and in no packed folder'], 2),
}


@pytest.mark.parametrize('name', CHANGES)
def test_a_changed_record_is_told_though_sealed_again(name, evidence, faults):
    change, words, n = CHANGES[name]
    record(evidence, change)
    found = faults(evidence)
    assert len(found) == n and all(any(w in l for l in found) for w in words), found
    assert all(l.startswith(str(evidence)) for l in found)


OUTCOMES = {
    'rank': (np.zeros_like, 'rank and answer do not fit on'),
    'prefix': (lambda a: np.roll(a, 1, 0), 'rank and answer do not fit on'),
    'step': (lambda a: np.roll(a, 1, 0), 'the first step and the prefix of one step differ on'),
    'max_softmax_order': (lambda a: np.stack([a[0] ^ np.uint8(255), a[1]]),
                          'max_softmax_order has'),
    'max_logit_order': (lambda a: a[:, ::-1], 'aurc is'),
    'calibration': (lambda a: a + 100, 'the mean confidence would be'),
    'label': (lambda a: a[:-1], 'the arrays do not fit each other'),
}


@pytest.mark.parametrize('name', OUTCOMES)
def test_changed_outcomes_are_told_though_sealed_again(name, evidence, faults):
    arrays(evidence, name, OUTCOMES[name][0])
    assert any(OUTCOMES[name][1] in l for l in faults(evidence))


@pytest.fixture
def made(few, tmp_path):
    """`made(outcomes, features)`: evidence of one record with these parts, and the numbers that
    belong to them."""
    def make(o, features=None):
        r, numbers = few[0], summary(o)
        history = r.history.assign(test=r.history['test'].where(r.history['test'].isna(),
                                                                numbers['top1']))
        env = {k: v for k, v in r.env.items() if k != 'teacher'}
        pack_records([type(r)(r.id, r.config, env, numbers,
                              {'outcomes': o, 'features': features, 'history': history}.get)],
             tmp_path/'results/mini', [r.id]*(features is not None), [r.id])
        enter_pack(tmp_path/'results/mini', 'mini')
        return tmp_path/'results'
    return make


def told(faults): return [l.split(': ', 1)[1] for l in faults]


def test_a_label_that_shares_the_top_is_no_fault(made, faults):
    o = outcomes(np.zeros((50, 1, 10)), np.arange(50) % 10)
    assert (o['rank'] == 9).all() and (o['prefix'] == 0).all() and faults(made(o)) == []


def test_parts_that_do_not_fit_are_told(made, faults):
    o = outcomes(np.random.default_rng(0).normal(size=(50, 2, 10)), np.arange(50) % 10)
    assert told(faults(made(o, np.zeros((49, 3), 'float16')))) == ['2 steps, its setting has 1',
                                                                   'features of 49 of 50 images']
    o = ({k: v[:, :1] if v.ndim == 2 else v for k, v in o.items()} |
         {'step': o['prefix'][:, 1:], 'prefix': o['prefix'][:, 1:], 'sure': o['sure'][:, 1:]})
    assert faults(made(o, np.zeros((50, 3), 'float16'))) == []
    assert list(_scores(o, np.zeros(50, bool))) == []
    assert (list(_scores(o | {'sure': o['sure'] - np.uint8(3)}, np.zeros(50, bool))) ==
            ['sure and max_softmax differ on 50 images'])
    assert (list(_scores(o | {'max_softmax': o['max_softmax'] + 1}, np.zeros(50, bool)))[0] ==
            'max_softmax is no probability on 50 images')


@pytest.mark.parametrize('name', [RECORDS, 'outcomes.npz.xz', 'features.npz.xz', SEAL])
def test_a_changed_byte_is_told(name, evidence, faults):
    flip(evidence/'mini'/name)
    fault, = faults(evidence)
    assert 'changed since the run was finished' in fault and (name in fault or name == SEAL)


@pytest.mark.parametrize('name', ['outcomes.npz.xz', 'features.npz.xz', RECORDS])
@pytest.mark.parametrize('again', [True, False], ids=['sealed again', 'as it was sealed'])
def test_a_truncated_file_is_told(name, again, evidence, faults):
    file = evidence/'mini'/name
    file.write_bytes(file.read_bytes()[:-50])
    if again: seal(evidence/'mini', PACKED)
    fault, = faults(evidence)
    assert (f'mini/{name}' in fault and again == ('cut off' in fault) and
            again != ('changed since' in fault))


@pytest.mark.parametrize('name', [RECORDS, 'outcomes.npz.xz', SEAL])
def test_a_lost_file_is_told(name, evidence, faults):
    (evidence/'mini'/name).unlink()
    assert any(name in l for l in faults(evidence))


def rewritten(evidence, change):
    lines = packed.lines(evidence/'mini')
    change(lines)
    packed.write_lines(evidence/'mini', lines)


def test_a_lost_teacher_is_told_by_each_student_and_the_ledger(evidence, faults, few):
    rewritten(evidence, lambda lines: lines.pop(0))
    found = faults(evidence)
    assert (len(found) == 3 and
            sum(l.endswith(f"its teacher '{few[0].id}' is missing") for l in found) == 2)
    assert sum(few[0].id in l and 'is final, and in no packed folder' in l for l in found) == 1


def test_a_teacher_may_lie_in_another_packed_folder(evidence, faults, few):
    rewritten(evidence, lambda lines: lines.pop(0))
    pack_records(few[:1], evidence/'teachers')
    assert faults(evidence) == [] and len(faults(evidence/'mini')) == 2


def test_a_doubled_seed_is_told(evidence, faults):
    rewritten(evidence, lambda lines: lines.append(lines[-1]))
    fault, = faults(evidence)
    assert (fault.startswith(f'{evidence}/mini: 2 runs of the setting') and
            "with the seed '1'" in fault)


def test_a_setting_under_two_names_is_told(evidence, faults, few):
    rewritten(evidence, lambda lines: lines.append(lines[0] | {'id': f'other-{few[0].id}'}))
    assert any('2 runs of the setting' in l for l in faults(evidence))


# The ledger

def test_what_the_ledger_lacks_is_told(evidence, faults, few):
    path = evidence/LEDGER
    whole = path.read_text()
    path.write_text(''.join(l for l in whole.splitlines(keepends=True) if few[-1].id not in l))
    assert faults(evidence) == [f'{evidence}/mini/{few[-1].id}: not in {path}'] == faults(evidence)
    assert len(faults(evidence/'mini')) == 1
    path.write_text(whole.splitlines()[0] + '\n')
    assert len(faults(evidence)) == len(few)
    path.unlink()
    fault, = faults(evidence)
    assert fault == f'{path}: no such file or directory'


@pytest.mark.parametrize('change, words', [
    (lambda t: t[:-30], 'its last line is not whole'),
    (lambda t: t.replace('seconds', 'hours'), 'its head is not'),
    (lambda t: '', 'its last line is not whole'),
    (lambda t: t.replace(',final,', ',best,', 1), "line 2: unknown purpose 'best'"),
    (lambda t: t + 'x,y\n', 'line 8 has 2 of 10 values'),
    (lambda t: t + 'd,mini,id,final,soon,cpu,2,cpu,,\n', 'cannot be read'),
    (lambda t: t + 'd,mini,id,final,-3,cpu,2,cpu,,\n', 'line 8: -3.0 seconds'),
    (lambda t: t + 'd,mini,id,final,nan,cpu,2,cpu,,\n', 'line 8: nan seconds'),
    (lambda t: t + '"\n', 'cannot be read')])
def test_a_damaged_ledger_is_told_and_not_added_to(change, words, evidence, faults, few):
    path = evidence/LEDGER
    path.write_text(change(path.read_text()))
    before = path.read_bytes()
    fault, = faults(evidence)
    assert fault.startswith(f'{path}: ') and words in fault
    with pytest.raises(UserError): enter(few, path, 'mini', 'search')
    assert path.read_bytes() == before


def test_entering_leaves_every_earlier_byte(few, tmp_path):
    path, before = tmp_path/LEDGER, b''
    for records, tier, purpose, n in ((few[:2], 'mini', 'final', 2), (few[:2], 'mini', 'final', 0),
                                      (few, 'small', 'final', len(few) - 2),
                                      (few[:1], 'mini', 'discarded', 1),
                                      (few[:1], 'mini', 'discarded', 0), ([], 'mini', 'final', 0)):
        assert enter(records, path, tier, purpose, 'one, "two"\nthree') == n
        now = path.read_bytes()
        assert now.startswith(before) and (now == before) == (n == 0)
        before = now
    lines = read_ledger(path)
    assert (len(lines) == len(few) + 1 and all(l.remark == 'one, "two" three' for l in lines) and
            len(path.read_text().splitlines()) == len(lines) + 1)
    assert standing(lines)[run_of(few[0])].purpose == 'discarded'
    counted = hours(lines)
    assert sum(n for n, _ in counted.values()) == len(few) and math.isclose(
        sum(h for _, h in counted.values()), sum(r.env['seconds'] for r in few)/3600)
    with pytest.raises(UserError, match="unknown purpose 'best'"): enter(few, path, 'mini', 'best')


def test_a_line_says_where_a_run_was_trained_and_from_what(few, tmp_path):
    r = few[0]
    odd = type(r)(r.id, r.config,
                  r.env | {'dirty': True, 'commit': None, 'device': 'cuda',
                           'hardware': {'cpu': 'a,\n"b"\ud800', 'cores': 3, 'gpu': 'G 1'}},
                  r.metrics, r.load)
    enter([odd], tmp_path/LEDGER, 'mini', 'preliminary', 'tried')
    line, = read_ledger(tmp_path/LEDGER)
    assert line[1:] == ('mini', r.id, 'preliminary', r.env['seconds'], 'a, "b"?', '3', 'cuda G 1',
                        '', 'tried; from changes that were not committed')
    assert len(line.date) == 10 and standing([line]).keys() == {run_of(odd)}


def test_packing_anew_discards_what_was_there(evidence, faults, few):
    before = (evidence/LEDGER).read_bytes()
    newer = [type(r)(r.id, r.config, r.env | {'commit': 'f'*12}, r.metrics, r.load)
             for r in few[:-1]] + [few[-1]]
    pack_records(newer, evidence/'mini')
    assert len(faults(evidence)) == 2*(len(few) - 1)
    assert (enter_pack(evidence/'mini', 'mini') == 2*(len(few) - 1) and
            enter_pack(evidence/'mini', 'mini') == 0)
    assert faults(evidence) == [] and (evidence/LEDGER).read_bytes().startswith(before)
    pack_records(few[:3], evidence/'small')
    enter(few[:3], evidence/LEDGER, 'small', 'discarded')
    assert all('discarded, says' in l for l in faults(evidence)) and len(faults(evidence)) == 3


def test_reproduce_enters_what_it_packs(cli, tmp_path, monkeypatch, faults):
    monkeypatch.setattr('snn_repro.training.launch.launch', lambda *a: [])   # every run is there
    monkeypatch.setattr('snn_repro.analysis.report.write_report', lambda *a, **k: None)
    out = tmp_path/'out'
    out.mkdir()
    shutil.copytree(results/'mini', out, dirs_exist_ok=True)
    assert cli('reproduce', '--only', 'tks-fig-categories', '--out', out, '--pack',
               tmp_path/'mine/mini')[0] == 0
    lines = read_ledger(tmp_path/'mine'/LEDGER)
    assert ({l.id for l in lines} == {r.id for r in Runs(tmp_path/'mine/mini')} and lines and
            {(l.tier, l.purpose) for l in lines} == {('mini', 'final')})
    assert faults(tmp_path/'mine') == []


# Loose runs, timings, and what is not there

def test_loose_runs_are_looked_at_without_a_ledger(tiny_run, faults):
    runs, folder = tiny_run
    (runs/'begun').mkdir()
    (runs/'begun/config.json').write_text('{')
    assert faults(runs) == []
    metrics = json.loads((folder/'metrics.json').read_text())
    (folder/'metrics.json').write_text(json.dumps(metrics | {'aurc': .3}))
    seal(folder, SCHEMA)
    fault, = faults(runs)
    assert fault.startswith(f'{folder}: aurc is 0.3')
    flip(folder/'weights.safetensors')
    fault, = faults(runs)
    assert (fault ==
            f'{folder}/weights.safetensors: changed since the run was finished (its hash differs)')


def test_weights_that_are_not_finite_are_told(tiny_run, faults):
    from safetensors.numpy import load_file, save_file
    runs, folder = tiny_run
    weights = load_file(folder/'weights.safetensors')
    name = next(k for k in weights if k.endswith('running_var'))
    weights[name][0] = np.inf
    save_file(weights, folder/'weights.safetensors')
    seal(folder, SCHEMA)
    assert faults(runs) == [f'{folder}: its weights are not all finite: {name!r}']


@pytest.mark.parametrize('change, words', [
    (lambda d: d.pop('rows'), 'expected hardware'),
    (lambda d: d['rows'][0].pop('ratio'), 'row 0: expected id'),
    (lambda d: d['rows'][0].update(ours='fast'), "expected float, found 'fast'"),
    (lambda d: d.update(commit=3), 'the commit is 3'), (None, 'this is not JSON')])
def test_timings_that_cannot_be_read_are_told(change, words, evidence, faults):
    given = json.loads((results/'bench/cpu.json').read_text())
    (evidence/'bench').mkdir()
    file = evidence/'bench/cpu.json'
    file.write_text(json.dumps(given))
    assert faults(evidence) == []
    file.write_text(json.dumps(given | {'commit': None}))
    assert faults(evidence) == [], 'where git is missing, the commit is unknown'
    if change: change(given)
    file.write_text(json.dumps(given)[:None if change else -9])
    fault, = faults(evidence)
    assert fault.startswith(str(file)) and words in fault


def test_the_kinds_of_timings_are_those_of_bench():
    from snn_repro.bench.timing import BenchConfig, BenchRow, bench_record
    assert (set(ROW) == set(BenchRow._fields)
            and set(BENCH) <= bench_record([], BenchConfig('cpu', 1, 1, False)).keys())


@pytest.mark.parametrize('change, words', [
    (lambda d: d.pop('hardware'), 'expected'),
    (lambda d: d['runs'][0].update(top1='much'), 'row 0, top1: expected float'),
    (lambda d: d['runs'].pop(), '5 runs, and 4'),
    (lambda d: d['runs'][0].update(seed=1), '5 runs, and 5 lines of distinct seeds'),
    (lambda d: d['runs'][0].update(top1=99.), 'the mean of top1 is 95'),
    (lambda d: d['runs'][0].update(seconds=1.), 'the mean of seconds'),
    (lambda d: d.update(holds=False), 'claim holds is True'),
    (lambda d: d.update(goal=99.), 'claim holds is False'),
    (lambda d: d['top1'].pop('mean'), 'top1: expected mean'),
    (lambda d: d.update(runs=[]), '5 runs, and 0')])
def test_a_sprint_is_computed_again(change, words, evidence, faults):
    from snn_repro.bench.time_to_accuracy import claim
    from test_time_to_accuracy import run
    found = claim([run(s, .94) for s in range(5)], 94.)
    (evidence/'bench').mkdir()
    file = evidence/'bench/sprint.json'
    file.write_text(json.dumps(found))
    assert faults(evidence) == []
    change(found)
    file.write_text(json.dumps(found))
    fault, = faults(evidence)
    assert fault.startswith(str(file)) and words in fault


def test_an_empty_folder_and_none_are_refused(refused, tmp_path):
    assert 'there are no runs in this folder' in refused('verify', tmp_path)
    assert 'there is no such folder' in refused('verify', tmp_path/'none')


ODD = (None, 'x', '', [], {}, -1, 2**63, 10**400, math.nan, math.inf, True, '../x', 'a\nb',
       '\ud800', [[1]], {'type': 'Spec'})


def places(tree, path=()):
    if path: yield path
    for k, v in (tree.items() if isinstance(tree, dict)
                 else enumerate(tree) if isinstance(tree, list) else ()):
        yield from places(v, (*path, k))


def test_whatever_stands_in_a_record_every_fault_is_a_line(few, tmp_path, cli):
    pack_records(few[:1], tmp_path/'results/mini')
    enter_pack(tmp_path/'results/mini', 'mini')
    folder = tmp_path/'results/mini'
    (first,), values, told = packed.lines(folder), cycle(ODD), 0
    for way in [*places(first)]*2:
        tree = copy.deepcopy(first)
        node = tree
        for k in way[:-1]: node = node[k]
        node[way[-1]] = next(values)
        packed.write_lines(folder, [tree])
        code, _, err = cli('verify', tmp_path/'results')
        assert code == bool(err) and all(l.startswith('wrong: ') for l in err[:-1]), (way, err)
        told += code
    assert told > 100
