"""Mangled configs, records, packed folders, checkpoints and locks: a value or one line that names
the file; never another exception, never a hang, never a file elsewhere, never code. A few hundred
examples; with SNN_REPRO_RELEASE more than ten thousand."""
import contextlib, hashlib, io, json, lzma, os, pickle, shutil, signal, warnings, zipfile
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.numpy import save

from conftest import NAME, fuzz
from snn_repro.analysis.exhibits import asked
from snn_repro.analysis.report import effort
from snn_repro.analysis.tables import MEASURES
from snn_repro.cli.main import main
from snn_repro.cli.status import compare_two, status
from snn_repro.core import files
from snn_repro.core.distributed import Distributed
from snn_repro.core.files import ERROR, LOCK, SEAL, held, locked
from snn_repro.core.spec import UserError, edits
from snn_repro.core.system import PLACE, cache_folder, commit_of, env_count, place
from snn_repro.experiments.experiment import Experiment
from snn_repro.experiments.tiers import find_tier
from snn_repro.metrics.classification import condense, outcomes, summary
from snn_repro.records.queue import PLAN, Queue
from snn_repro.records.runs import SCHEMA, Runs, pack_records, save_run
from snn_repro.training.checkpoint import FOLDER, Progress, Sums, _digest, capture
from snn_repro.training.environment import threads
from snn_repro.training.slurm import queued

pytestmark = pytest.mark.release
E = asked(NAME, find_tier('mini'))[1]


# What stands where something else should

class Boom:
    "Unpickled, it leaves a trace."

    def __reduce__(self):
        return os.mkdir, (os.path.join(os.environ['SNN_REPRO_CANARY'], 'pickled'),)


text = st.one_of(st.text(max_size=8), st.sampled_from(
    ['', '..', '../x', '/etc/passwd', 'a\nb', 'a\0b', '\ud800', '\x1b[2J', '²', 'Spec', 'Arch',
     'os.system', '$\\frac$', 'x' * 3000]))
numbers = st.one_of(st.integers(-3, 3),
                    st.sampled_from([2**31, 2**53, 2**63, 2**64, -2**63, 10**400]), st.floats(),
                    st.sampled_from([1e308, 5e-324, -0., float('nan'), float('inf')]))
odd = st.recursive(st.one_of(st.none(), st.booleans(), numbers, text),
                   lambda s: st.one_of(st.lists(s, max_size=3),
                                       st.dictionaries(text, s, max_size=3)), max_leaves=5)


def often(usual, *seldom) -> st.SearchStrategy:
    "Most often the first strategy, at times one of the others."
    return st.integers(0, 9).flatmap(lambda n: usual if n < 8 else st.one_of(*seldom))


def places(tree, path=()):
    "Every path into a tree of JSON."
    yield path
    for k, v in (tree.items() if isinstance(tree, dict)
                 else enumerate(tree) if isinstance(tree, list) else ()):
        yield from places(v, (*path, k))


def like(v) -> st.SearchStrategy:
    "Other values of the kind of `v`."
    if isinstance(v, bool): return st.booleans()
    if isinstance(v, int): return st.sampled_from([0, 1, 2, 3, 7, -1, 2**31, 2**63, 10**400])
    if isinstance(v, float):
        return st.sampled_from([.5, 0., 1., -1., 1e-9, 1e308, 5e-324, float('nan'), float('inf')])
    return odd


@st.composite
def mangled(draw, tree, most=3):
    "A tree of JSON with parts replaced, dropped, renamed, wrapped, or taken from elsewhere in it."
    tree = json.loads(json.dumps(tree))
    for _ in range(draw(st.integers(1, most))):
        at = draw(st.sampled_from(list(places(tree))))
        if not at:
            if draw(st.integers(0, 9)) == 0: tree = draw(odd)
            continue
        *way, last = at
        node = tree
        for k in way: node = node[k]
        match draw(st.sampled_from(['like', 'like', 'replace', 'drop', 'rename', 'wrap',
                                    'other', 'add'])):
            case 'like': node[last] = draw(like(node[last]))
            case 'replace': node[last] = draw(odd)
            case 'drop': del node[last]
            case 'rename' if isinstance(node, dict): node[draw(text)] = node.pop(last)
            case 'wrap': node[last] = draw(
                st.sampled_from([[node[last]], {'type': node[last]}, str(node[last])]))
            case 'other': node[last] = json.loads(
                json.dumps(draw(st.sampled_from([find(tree, p) for p in places(tree)]))))
            case 'add' if isinstance(node, dict): node[draw(text)] = draw(odd)
    return tree


def find(tree, path):
    for k in path: tree = tree[k]
    return tree


@st.composite
def broken(draw, content: bytes):
    "Bytes with some cut out, put in, doubled or changed."
    for _ in range(draw(st.integers(1, 3))):
        i, j = sorted(draw(st.lists(st.integers(0, len(content)), min_size=2, max_size=2)))
        j = min(j, i + draw(st.sampled_from([1, 8, 1000])))
        content = draw(st.sampled_from([content[:i], content[i:], content[:i] + content[j:],
                                        content[:j] + content[i:],
                                        content[:i] + draw(st.binary(max_size=9)) + content[j:]]))
    return content


NESTED = b'[' * 100_000
AS_TEXT = [lambda t: b'\xef\xbb\xbf' + t, lambda t: t.decode().encode('utf-16'),
           lambda t: t.replace(b'"', b'\xff', 1), lambda t: b'', lambda t: NESTED,
           lambda t: t + b'{}',
           lambda t: t.replace(b': ', b': ' + NESTED, 1),
           lambda t: t.replace(b'{', b'{"type": 5, "type": "Experiment", ', 1),
           lambda t: t.replace(b': ', b': 1e999 , "a": ', 1),
           lambda t: t.replace(b': ', b': ' + b'9' * 5000 + b', "a": ', 1),
           lambda t: t.replace(b': ', b': NaN, "a": ', 1),
           lambda t: b'{"a":' * 500 + b'1' + b'}' * 500]


def json_bytes(tree) -> st.SearchStrategy:
    content = json.dumps(tree).encode()
    well_formed = mangled(tree).map(lambda t: json.dumps(t).encode())
    return often(well_formed, broken(content), st.sampled_from(AS_TEXT).map(lambda f: f(content)),
                 odd.map(lambda t: json.dumps(t).encode()), st.binary(max_size=40))


DTYPES = ['f4', 'f8', 'f2', 'i8', 'i4', 'u1', 'u2', 'u8', '?']


@st.composite
def other_arrays(draw, arrays: dict, dtypes=DTYPES):
    """Some of the arrays in other shapes or dtypes, with other values, under other names, or
    missing."""
    arrays = dict(arrays)
    for _ in range(draw(st.integers(1, 2))):
        if not arrays: break
        k = draw(st.sampled_from(sorted(arrays)))
        v = arrays.pop(k)
        match draw(st.sampled_from(['drop', 'rename', 'dtype', 'shape', 'value', 'swap'])):
            case 'rename': arrays[draw(text)] = v
            case 'dtype' if v.dtype.kind != 'U':
                with warnings.catch_warnings(action='ignore'):
                    arrays[k] = v.astype(draw(st.sampled_from(dtypes)), casting='unsafe')
            case 'shape': arrays[k] = draw(st.sampled_from(
                [v.ravel()[:0], v.ravel()[1:], v[None], v.ravel(), np.zeros((0, 2)).astype(v.dtype),
                 v.T, np.zeros(()).astype(v.dtype)]))
            case 'value':
                v = v.copy()
                if v.size:
                    v.flat[draw(st.integers(0, v.size - 1))] = draw(
                        st.sampled_from([0, 255, 1] if v.dtype.kind in 'u?' else [0, 255, -1]
                                        if v.dtype.kind == 'i' else [np.nan, np.inf, -1, 6e4]))
                arrays[k] = v
            case 'swap' if arrays: arrays[k] = arrays[draw(st.sampled_from(sorted(arrays)))]
    return arrays


@st.composite
def tensor_file(draw, content: bytes, arrays: dict):
    "A safetensors file: other arrays, a mangled header, or broken bytes."
    match draw(often(st.just('arrays'), st.sampled_from(['header', 'broken']))):
        case 'arrays':
            found = draw(other_arrays(arrays))
            try: return save({k: np.ascontiguousarray(v) for k, v in found.items()})
            except Exception: return content[:40]   # a name that is no text
        case 'header':
            n = int.from_bytes(content[:8], 'little')
            header = json.dumps(draw(mangled(json.loads(content[8:8 + n])))).encode()
            return (draw(st.sampled_from([len(header), len(header), 2**63, 0]))
                    .to_bytes(8, 'little') + header + content[8 + n:])
    return draw(broken(content))


def zipped(arrays: dict) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, 'w', zipfile.ZIP_DEFLATED) as z:
        for k, v in arrays.items():
            member = io.BytesIO()
            if isinstance(v, bytes): member.write(v)
            else: np.lib.format.write_array(member, np.asanyarray(v), allow_pickle=True)
            z.writestr(zipfile.ZipInfo((k.replace('\0', '') or 'x') + '.npy'), member.getvalue())
    return out.getvalue()


def claims(shape: str) -> bytes:
    return (b"\x93NUMPY\x01\x00v\x00" +
            f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) +
            b'\n' + b'\0' * 16)


@st.composite
def npz_file(draw, content: bytes, arrays: dict):
    """A .npz file: other arrays, pickled ones, members that lead outside or claim what they do not
    hold, or broken bytes."""
    odd_member = st.one_of(st.just(np.array([Boom()], dtype=object)), st.just(pickle.dumps(Boom())),
                           st.sampled_from([claims('(999999999999,)'), claims('(2, -1)'),
                                            claims("__import__('os')"), b'', b'\x93NUMPY']))
    match draw(often(st.just('arrays'), st.sampled_from(['member', 'broken', 'pickle']))):
        case 'arrays': return zipped(
            {k.encode('utf-8', 'replace').decode(): v
             for k, v in draw(other_arrays(arrays, [*DTYPES, 'U3', 'c8'])).items()})
        case 'member': return zipped(arrays | {draw(often(
            st.sampled_from([*arrays]),
            st.sampled_from(['../outside', '/nowhere/outside', 'a/b/c', 'a']))): draw(odd_member)})
        case 'pickle': return pickle.dumps(Boom())
    return draw(broken(content))


@st.composite
def csv_file(draw, content: bytes):
    cell = st.sampled_from([b'', b'x', b'"', b'1e999', b'9' * 30, b',', b'\n', b'\0',
                            b'\xff', b'=1+1'])
    if draw(st.booleans()): return draw(broken(content))
    parts = content.split(b',')
    parts[draw(st.integers(0, len(parts) - 1))] = draw(cell)
    return b','.join(parts)


# Something that is no file stands where a file should; the folder outside holds what must not
# change

SPECIAL = ['missing', 'folder', 'fifo', 'link', 'device', 'nowhere']


def put(path: Path, content):
    match content:
        case 'missing': return
        case 'folder': path.mkdir()
        case 'fifo': os.mkfifo(path)
        case 'link': path.symlink_to('../../outside/kept.json')
        case 'device': path.symlink_to('/dev/zero')
        case 'nowhere': path.symlink_to('../../outside/new.json')
        case _: path.write_bytes(content)


def state(folder: Path) -> dict:
    return {p.relative_to(folder): p.read_bytes() if p.is_file() else None
            for p in sorted(folder.rglob('*'))}


class Hang(BaseException): pass


@pytest.fixture
def home(tmp_path, monkeypatch):
    "A folder whose `outside` must not change."
    (tmp_path/'outside').mkdir()
    (tmp_path/'outside/kept.json').write_text('{}')
    monkeypatch.setenv('SNN_REPRO_CANARY', str(tmp_path/'outside'))
    monkeypatch.setattr(os, 'fsync', lambda descriptor: None)
    monkeypatch.setattr(files, 'BEAT', .01)
    with threads(1): yield tmp_path   # threads that wait for each other take twenty times as long


def put_files(home: Path, files: dict) -> Path:
    "The files in a fresh folder `runs/<id>`."
    shutil.rmtree(home/'runs', ignore_errors=True)
    folder = home/'runs'/E.id
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder/name).parent.mkdir(exist_ok=True)
        put(folder/name, content)
    return folder


def hang(*_): raise Hang


def told(home: Path, do, names):
    """What `do` gives, or None where it raises a `UserError`: one line that names a path under
    `names`; within ten seconds, and nothing outside is touched."""
    before = state(home/'outside')
    signal.signal(signal.SIGALRM, hang)
    signal.alarm(10)
    try:
        with np.errstate(all='ignore'): return do()
    except UserError as e:
        line = str(e)
        assert line.isprintable() and str(names) in line and len(line) < 2500, line
    finally:
        signal.alarm(0)
        assert (state(home/'outside') == before and
                sorted(p.name for p in home.iterdir()) == ['outside', 'runs'])


# The honest files that are mangled

class Honest(dict):
    def __repr__(self): return 'honest'


@pytest.fixture(scope='module')
def honest(tmp_path_factory):
    "The files of a small finished run, of a packed folder of it, and their arrays."
    home = tmp_path_factory.mktemp('honest')
    rng = np.random.default_rng(0)
    labels = rng.integers(10, size=12)
    logits = rng.normal(size=(12, 4, 10)).astype('f4')
    env = {'schema': SCHEMA, 'seconds': 1.5, 'device': 'cpu', 'hardware': {'cpu': 'x', 'cores': 2},
           'data': 'ab', 'teacher': {'id': 'a-s0-b', 'weights': 'ab'},
           'versions': {'snn-repro': '0', 'torch': '2', 'python': '3'}}
    history = pd.DataFrame({'epoch': [0, 1], 'lr': [.1, .2], 'ce': [2., 1.], 'train': [.1, .2],
                            'test': [np.nan, .5]})
    features = rng.normal(size=(12, 4)).astype('f2')
    record = save_run(home/E.id, E.to_dict(), env, history, logits, labels, features,
                      summary(outcomes(logits, labels)), {'w': np.zeros((2, 2), 'f4')})
    packed = pack_records([record], home/'packed', features=[E.id])
    read = lambda folder: {p.name: p.read_bytes() for p in sorted(folder.iterdir())}
    return Honest({'loose': read(home/E.id), 'packed': read(packed), 'arrays': {
        'outputs.safetensors': {'logits': logits, 'labels': labels},
        'features.safetensors': {'features': features},
        'weights.safetensors': {'w': np.zeros((2, 2), 'f4')},
        'outcomes.npz.xz': {f'{E.id}/{k}': v for k, v in condense(record.outcomes).items()},
        'features.npz.xz': {E.id: features}}})


def mangled_file(honest: dict, kind: str, name: str):
    content, arrays = honest[kind][name], honest['arrays'].get(name)
    if name.endswith('.xz'):   # mangled inside the stream, or the stream itself
        inside = lzma.decompress(content)
        whole = mangled_content(name.removesuffix('.xz'), inside, arrays).map(
            lambda c: lzma.compress(c, preset=0) if isinstance(c, bytes) else c)
        return often(whole, whole, broken(content))
    return mangled_content(name, content, arrays)


def mangled_content(name: str, content: bytes, arrays):
    if name.endswith('.json'): found = json_bytes(json.loads(content))
    elif name.endswith('.jsonl'): found = json_bytes(json.loads(content)).map(lambda c: c + b'\n')
    elif name.endswith('.csv'): found = csv_file(content)
    elif name.endswith('.npz'): found = npz_file(content, arrays)
    else: found = tensor_file(content, arrays)
    return often(found, found, st.sampled_from(SPECIAL))


@st.composite
def mangled_folder(draw, honest: dict, kind: str):
    """The files of a run or packed folder, one or two of them mangled; sealed as before, or sealed
    again, or with another seal."""
    files = dict(honest[kind])
    names = [n for n in files if n != SEAL]
    for name in draw(often(st.sampled_from(names).map(lambda n: [n]),
                           st.lists(st.sampled_from(names), max_size=3, unique=True))):
        files[name] = draw(mangled_file(honest, kind, name))
    done = json.loads(files[SEAL])
    match draw(often(st.just('again'), st.sampled_from(['as before', 'mangled', 'elsewhere']))):
        case 'again': done['sha256'] |= {n: hashlib.sha256(c).hexdigest() for n, c in files.items()
                                         if isinstance(c, bytes) and n != SEAL}
        case 'mangled': return files | {SEAL: draw(json_bytes(done))}
        case 'elsewhere': done['sha256'][draw(
            st.sampled_from(['../x', '/etc/passwd', '..', '.', '', 'a\0b', 'y' * 300,
                             '../../outside/kept.json', 'a\nb']))] = 'ab'
    return files | {SEAL: json.dumps(done).encode()}


def use(records, runs: Runs):
    "All that tables, figures and the report read of records."
    for r in records:
        (r.setting, r.seed, r.history, r.outcomes, r.features,
         r.config['arch']['type'] + r.config['data']['type'])
        for m in MEASURES.values(): m(r)
        if 'teacher' in r.env: runs.find(r.env['teacher']['id'])
    effort(list(records), 9)
    return records


# The properties

@fuzz(3000)
@given(data=st.data())
def test_a_config_is_read_or_refused(home, data):
    path = put_files(home, {'config.json': data.draw(often(
        json_bytes(E.to_dict()), json_bytes(E.to_dict()), st.sampled_from(SPECIAL)))})/'config.json'
    def read():
        e = asked(str(path), find_tier('mini'))[1]
        assert (e == Experiment.from_dict(json.loads(e.to_json())) and e.id and
                (e.teacher is None or e.teacher.id))
        Runs(home/'runs').get(e)
        return e
    told(home, read, home/'runs')


@fuzz(400)
@given(data=st.data())
def test_the_command_line_shows_a_config_or_says_one_line(home, data):
    path = put_files(home, {'config.json': data.draw(json_bytes(E.to_dict()))})/'config.json'
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = told(home, lambda: main(['show', str(path)]), path)
    assert (code == 0 and not err.getvalue()) or (code == 1 and err.getvalue().startswith(
        f'snn-repro: {path}') and err.getvalue().count('\n') == 1), err.getvalue()


keys = st.one_of(st.sampled_from(['.'.join(map(str, p)) for p in places(E.to_dict()) if p]), text,
                 st.lists(text, max_size=4).map('.'.join))
values = st.one_of(odd.map(lambda v: json.dumps(v)), text,
                   st.sampled_from(['NaN', '-Infinity', '1e999', '9' * 5000, '[' * 9999,
                                    '{"type":"Data"}', '{"type":["CE"]}', "__import__('os')"]))


@fuzz(2000)
@example(['recipe.lr=NaN'])
@example(['recipe.lr=1' + '0' * 400])
@example(['objective.²=1'])
@example(['recipe.lr=' + '[' * 100_000])
@given(changes=st.lists(st.one_of(st.tuples(keys, values).map('='.join), text), min_size=1,
                        max_size=3))
def test_an_edit_is_made_or_refused(changes):
    try: e = edits(E, changes)
    except UserError as told:
        assert str(told).isprintable() and len(str(told)) < 1500 + len(''.join(changes))
    else: assert Experiment.from_dict(json.loads(e.to_json())) == e


@fuzz(3000)
@given(data=st.data())
def test_a_record_is_read_or_refused(home, honest, data):
    folder = put_files(home, data.draw(mangled_folder(honest, 'loose')))
    runs = Runs(folder.parent)
    told(home, lambda: use([r] if (r := runs.get(E)) else [], runs), folder.parent)


@fuzz(2000)
@given(data=st.data())
def test_a_packed_folder_is_read_or_refused(home, honest, data):
    folder = put_files(home, data.draw(mangled_folder(honest, 'packed')))
    def read():
        runs = Runs(folder)
        runs.get(E)
        return use(list(runs), runs)
    told(home, read, folder)


def learner():
    net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    return net, torch.optim.AdamW(net.parameters(), lr=.01, fused=True)


def step(net, opt):
    net(torch.arange(12.).view(4, 3)).square().sum().backward()
    opt.step()


@lru_cache
def checkpoint(epoch: int):
    "Tensors and data of a checkpoint."
    net, opt = learner()
    step(net, opt)
    return ({k: v.numpy() for k, v in capture(net, opt).items()} | {'sums.ce': np.array(1, 'f4')},
            {'epoch': epoch, 'history': [{'epoch': i, 'ce': .5} for i in range(epoch)],
             'seconds': 1.5, 'parts': ['ce'], 'sums': {'right': 1, 'seen': 4, 'steps': 1}})


@st.composite
def mangled_checkpoints(draw):
    "Two checkpoints, one or both mangled, and some sealed as whole."
    files = {}
    for n, place in enumerate('ab', 1):
        arrays, data = checkpoint(n)
        content = save(arrays)
        if place == 'b' or draw(st.booleans()):
            harm = draw(st.sampled_from(['tensors', 'data', 'both']))
            if harm != 'data': content = draw(tensor_file(content, arrays))
            if harm != 'tensors': data = draw(mangled(data))
        try: digest = _digest(content, n, data)
        except RecursionError: digest = ''
        about = {'count': n, 'state': data, 'sha256': digest}
        files |= {f'{FOLDER}/{place}.safetensors': content,
                  f'{FOLDER}/{place}.json': json.dumps(about).encode()}
    harmed = draw(st.sampled_from([None, None, None, *files]))
    if harmed:
        files[harmed] = draw(st.one_of(broken(files[harmed]), st.sampled_from(SPECIAL),
                                       json_bytes(json.loads(files[harmed]))
                                       if harmed.endswith('.json') else st.binary()))
    return ({FOLDER: draw(st.sampled_from(['fifo', 'device', 'nowhere', b'']))}
            if draw(st.integers(0, 20)) == 0 else files)


@fuzz(2000)
@given(files=mangled_checkpoints())
def test_a_checkpoint_is_gone_on_from_or_passed_over(home, files):
    folder, err = put_files(home, files), io.StringIO()
    net, opt = learner()
    fresh = {k: v.clone() for k, v in net.state_dict().items()}
    def go_on():
        at = Progress(folder, net, opt, 0., Distributed())
        if 'going on from the one before' in err.getvalue() and at.epoch == 0 and not opt.state:
            assert all(torch.equal(v, fresh[k]) for k, v in net.state_dict().items())
        step(net, opt)
        at.tick(Sums(dict(at.sums.parts), at.sums.right, at.sums.seen, at.sums.steps))
        pd.DataFrame(at.history).to_csv()
    with contextlib.redirect_stderr(err): told(home, go_on, folder)
    assert all(l.startswith('snn-repro: ') for l in err.getvalue().splitlines()), err.getvalue()


@fuzz(600)
@given(content=st.one_of(
    json_bytes({'host': os.uname().nodename, 'pid': os.getpid(), 'job': '1', 'restarts': 0}),
    json_bytes({'host': os.uname().nodename, 'pid': 2**22 + 1}), st.sampled_from(SPECIAL)),
       old=st.booleans())
def test_a_lock_is_held_or_taken_over(home, content, old):
    folder = put_files(home, {LOCK: content, ERROR: content})
    if old:
        (os.utime(folder/LOCK, (0, 0))
         if (folder/LOCK).is_file() and not (folder/LOCK).is_symlink() else None)
    def take():
        assert held(folder) in (True, False)
        with locked(folder): return True
    told(home, take, folder)


PLANNED = {'id': E.id, 'teacher': 'a-s0-b', 'experiment': E.to_dict()}


@fuzz(1200)
@given(data=st.data())
def test_a_plan_and_its_folders_are_looked_at_or_refused(home, data):
    held_by = {'host': os.uname().nodename, 'pid': os.getpid(), 'job': '1'}
    files = {LOCK: held_by, ERROR: {'reason': 'why', 'time': 'now', 'host': 'x'},
             'config.json': E.to_dict(),
             f'{FOLDER}/a.json': {'count': 1, 'state': checkpoint(1)[1], 'sha256': ''}}
    chosen = data.draw(st.lists(st.sampled_from([*files]), unique=True))
    folder = put_files(home, {n: data.draw(often(json_bytes(files[n]), json_bytes(files[n]),
                                                 st.sampled_from(SPECIAL))) for n in chosen})
    plan = [data.draw(often(json_bytes(PLANNED), st.just(json.dumps(PLANNED).encode())))
            for _ in range(data.draw(st.integers(0, 2)))]
    put(folder.parent/PLAN,
        data.draw(often(st.just(b'\n'.join(plan) + b'\n'), st.sampled_from(SPECIAL))))
    told(home, lambda: status(folder.parent, 80), folder.parent)
    told(home, lambda: Queue(folder.parent).take(), folder.parent)


@fuzz(600)
@given(data=st.data())
def test_two_runs_are_compared_or_refused(home, honest, data):
    folder = put_files(home, data.draw(mangled_folder(honest, 'loose')))
    other = folder.with_name('other')
    other.mkdir()
    for name, content in honest['loose'].items(): (other/name).write_bytes(content)
    told(home, lambda: compare_two(folder, other), folder)


# What another job, a container or a home directory leaves in the environment

LEFT = (*PLACE, 'MASTER_ADDR', 'SLURM_JOB_ID', 'SLURM_RESTART_COUNT', 'SLURM_NTASKS', 'COLUMNS',
        'LINES', 'HOME', 'XDG_CACHE_HOME', 'USER', 'LOGNAME', 'PATH', 'TMPDIR', 'GIT_DIR',
        'SNN_REPRO_PARENT', 'LANG', 'LC_ALL', 'TERM', 'NO_COLOR')
said = st.one_of(text, st.sampled_from(
    ['0', '1', '2', '3', '-1', ' 2', '1e3', '²', '9'*5000, 'abc', '29500', '/nonexistent',
     '/dev/null', '/root', '.'])).map(
         lambda v: v.replace('\0', '').encode('utf-8', 'replace').decode())


@fuzz(1000)
@given(left=st.dictionaries(st.sampled_from(LEFT), said, max_size=8))
def test_a_mangled_environment_costs_nothing(home, monkeypatch, left):
    folder, err = put_files(home, {}), io.StringIO()
    with monkeypatch.context() as m:
        m.chdir(folder)
        for k, v in left.items(): m.setenv(k, v)
        def look():
            rank, size = place()
            assert (0 <= rank < size and env_count('SLURM_NTASKS') >= 0 and
                    cache_folder().is_absolute() and os.access(cache_folder(), os.W_OK))
            if 'PATH' in left:
                assert commit_of(Path(files.__file__)) == (None, None) and queued('a') is None
            with locked(folder): assert held(folder)
            return main(['status', str(folder)])
        with contextlib.redirect_stderr(err): assert told(home, look, folder) == 1
    line, = err.getvalue().splitlines()
    assert line.startswith('snn-repro: ') and 'there are no runs in this folder' in line
    assert list(folder.iterdir()) == []


def test_the_mangled_files_were_honest_once(home, honest):
    "What the properties mangle is read without complaint as it is."
    files = {k: v for k, v in honest['loose'].items()}
    runs = Runs(put_files(home, files).parent)
    assert use([runs.get(E)], runs) and use(list(Runs(put_files(home, honest['packed']))), runs)
    assert edits(E, ['seed=1']) == replace(E, seed=1)
