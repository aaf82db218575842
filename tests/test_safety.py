"""What a stranger's file can be made to do: nothing. The library calls no reader that runs code; a
way out of a folder is refused."""
import ast, json, lzma, os, pickle, shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import packed
from conftest import NAME, TINY
from snn_repro.analysis.exhibits import asked
from snn_repro.core.files import SEAL, inside, locked, read_json, seal, sha256
from snn_repro.core.spec import Spec, UserError, edit, edits
from snn_repro.data.event_sets import NMNIST
from snn_repro.experiments.experiment import Experiment
from snn_repro.experiments.tiers import find_tier
from snn_repro.records import runs as chapter
from snn_repro.records.runs import PACKED, SCHEMA, Runs
from snn_repro.training.checkpoint import FOLDER, load_checkpoint, save_checkpoint

root = Path(__file__).parents[1]
results = root/'results/mini'
E = asked(NAME, find_tier('mini'))[1]

# Calls that run or unpack what a file says, and what makes one harmless; torch and NumPy read
# pickles if they are let.
GUARDED = {'torch.load': ('weights_only', True), 'np.load': ('allow_pickle', False),
           'numpy.load': ('allow_pickle', False)}
FORBIDDEN = {'eval', 'exec', 'compile', '__import__', 'pickle.load', 'pickle.loads',
             'pickle.Unpickler', 'marshal.load', 'marshal.loads', 'shelve.open', 'joblib.load',
             'dill.load', 'yaml.load', 'yaml.unsafe_load', 'np.fromfile', 'pd.read_pickle',
             'pandas.read_pickle', 'os.system', 'os.popen', 'shutil.unpack_archive'}
# of archives and loaders, whatever they are called
METHODS = {'extractall', 'extract', 'load_module', 'exec_module'}
# Between the processes of one run, through a folder of their own; and a file that the person who
# runs a command names on it
ALLOWED = {('distributed', 'pickle.loads'), ('own', 'spec.loader.exec_module')}


def name_of(node) -> str:
    if isinstance(node, ast.Name): return node.id
    return f'{name_of(node.value)}.{node.attr}' if isinstance(node, ast.Attribute) else '?'


def dangers(source: str, module: str = '') -> list[str]:
    "The calls in a source that could run what a file says."
    found = []
    for node in ast.walk(ast.parse(source)):
        if (isinstance(node, ast.ImportFrom) and
            node.module in ('pickle', 'marshal', 'shelve', 'dill', 'joblib', 'yaml')):
            found.append(f'from {node.module}')
        if not isinstance(node, ast.Call): continue
        name, given = name_of(node.func), {k.arg: getattr(k.value, 'value', None)
                                           for k in node.keywords}
        if name in GUARDED and given.get(GUARDED[name][0], 'absent') is not GUARDED[name][1]:
            found.append(name)
        if name in FORBIDDEN or isinstance(node.func, ast.Attribute) and node.func.attr in METHODS:
            found.append(name)
        if given.get('shell') is True: found.append(f'{name} with a shell')
    return [f for f in found if (module, f) not in ALLOWED]


def code_of(notebook: Path) -> str:
    cells = json.loads(notebook.read_text())['cells']
    return '\n'.join(''.join(c['source']) for c in cells if c['cell_type'] == 'code')


@pytest.mark.parametrize('path', sorted((root/'snn_repro').rglob('*.py')), ids=lambda p: p.stem)
def test_no_module_runs_what_a_file_says(path): assert dangers(path.read_text(), path.stem) == []


@pytest.mark.parametrize('path', sorted((root/'nbs').rglob('*.ipynb')), ids=lambda p: p.stem)
def test_no_chapter_runs_what_a_file_says(path):
    module = code_of(path).partition('default_exp ')[2].split()
    assert dangers(code_of(path), module[0].split('.')[-1] if module else '') == []


@pytest.mark.parametrize(
    'line', ['torch.load(p)', 'torch.load(p, weights_only=False)', 'np.load(p)',
             'np.load(p, None, True)', 'np.load(p, allow_pickle=x)', 'eval(t)', 'pickle.load(f)',
             'from pickle import load', 'tar.extractall(d)', 'subprocess.run(c, shell=True)',
             'yaml.load(t)', 'shutil.unpack_archive(a)'])

def test_the_test_sees_what_is_dangerous(line):
    assert dangers(line) != [] and dangers('torch.load(p, weights_only=True); np.load(p, '
                                           'allow_pickle=False); net.eval()') == []


# Settings

@pytest.mark.parametrize('path, value, said', [
    ('recipe.lr', float('nan'), 'finite'), ('recipe.lr', 10**400, 'expected float'),
    ('T', True, 'expected int'), ('init', ['fresh'], 'is not possible'),
    ('arch.depth', 1., 'expected int'),
    ('data', {'type': 'Data'}, "unknown type 'Data'"), ('data', {'type': 'Images'}, 'unknown type'),
    ('data', {'type': 'Recordings'}, 'unknown type'),
    ('data', {'type': ['Digits']}, 'unknown type'),
    ('objective', [{'type': 'Objective'}], 'unknown type'),
    ('arch.neuron', {'type': 'Neuron'}, 'unknown type'), ('objective.²', {}, 'no entry'),
    ('arch', {'type': 'x' * 9999}, 'unknown type')])
def test_a_value_that_cannot_be_is_told_in_one_short_line(path, value, said):
    with pytest.raises(UserError) as e: edit(E, path, value)
    assert said in str(e.value) and str(e.value).isprintable() and len(str(e.value)) < 1000


def test_a_class_without_its_methods_is_no_type_and_all_others_are():
    assert Spec.from_dict({'type': 'NMNIST'}) == NMNIST()
    with pytest.raises(UserError) as e: Spec.from_dict({'type': 'Nothing'})
    known = str(e.value).partition('known: ')[2].rstrip(')').split(', ')
    assert ({'Digits', 'ImageNet1k', 'SEWResNet18', 'TKS', 'LIF', 'Experiment'} <= set(known) and
            not {'Data', 'CIFAR', 'Published', 'Recordings', 'Staged', 'Arch', 'Augment'} &
            set(known))


def test_a_mistake_in_a_config_names_the_file_and_the_place(tmp_path):
    path = tmp_path/'config.json'
    for key, said in (('recipe.epochs', '.recipe: epochs is -1'), ('seed', 'seed is -1')):
        d = E.to_dict()
        *way, last = key.split('.')
        (d[way[0]] if way else d)[last] = -1
        path.write_text(json.dumps(d))
        with pytest.raises(UserError) as e: asked(str(path), find_tier('mini'))
        assert str(e.value).startswith(f'{path}') and said in str(e.value)


def test_a_file_too_large_is_not_read(tmp_path):
    # a hole of a terabyte takes no room
    with open(tmp_path/'config.json', 'wb') as f: f.truncate(2**40)
    with pytest.raises(UserError, match='larger than 64 MB'): read_json(tmp_path/'config.json')


def test_a_message_is_one_line_whatever_is_in_it():
    assert str(UserError('a\nb\x1b[2J', 'c\ud800', 'd\u2028')) == r'c\ud800: a\nb\x1b[2J (d\u2028)'


# Records

@pytest.mark.parametrize('name, ok',
                         [('config.json', True), ('../x', False), ('/etc/passwd', False),
                          ('..', False), ('', False), ('a/b', False), ('a/..', False)])
def test_a_name_from_a_file_stays_in_its_folder(name, ok): assert inside(name) == ok


def test_the_id_of_a_teacher_leads_nowhere_else(tmp_path):
    with pytest.raises(UserError, match='is no id of a run'): Runs(tmp_path).find('../elsewhere')


def reseal(folder: Path, name: str, change):
    "Change JSON in a finished run, and seal it again as its maker would."
    data = json.loads((folder/name).read_text())
    change(data)
    (folder/name).write_text(json.dumps(data))
    seal(folder, SCHEMA)


def test_a_resealed_run_of_another_setting_is_not_taken_for_this_one(tiny_run):
    runs, folder = tiny_run
    e = edits(E, TINY[1::2])
    assert e.id == folder.name and Runs(runs).get(e)
    reseal(folder, 'config.json', lambda d: d['recipe'].update(lr=.5))
    with pytest.raises(UserError, match=f'{folder}.*another setting than its name says'):
        Runs(runs).get(e)
    reseal(folder, 'config.json', lambda d: d['recipe'].update(lr=E.recipe.lr, batch='many'))
    with pytest.raises(UserError, match=f'{folder}, config.recipe.batch: expected int'):
        Runs(runs).get(e)


def test_a_packed_run_of_another_setting_is_not_taken_for_this_one(tmp_path):
    shutil.copytree(results, tmp_path, dirs_exist_ok=True)
    lines = packed.lines(tmp_path)
    e = Experiment.from_dict(lines[0]['config'])
    assert Runs(tmp_path).get(e)
    lines[0]['config']['seed'] = 5
    packed.write_lines(tmp_path, lines)
    with pytest.raises(UserError, match='another setting'): Runs(tmp_path).get(e)
    assert Runs(tmp_path).get(replace(e, seed=1))


def test_a_file_of_a_run_that_is_a_link_is_refused(tiny_run, tmp_path):
    runs, folder = tiny_run
    (folder/'weights.safetensors').rename(tmp_path/'elsewhere')
    (folder/'weights.safetensors').symlink_to(tmp_path/'elsewhere')
    with pytest.raises(UserError, match='weights.safetensors: a link to somewhere else'):
        list(Runs(runs))


def test_what_is_packed_small_does_not_fill_the_memory(tmp_path, monkeypatch):
    shutil.copytree(results, tmp_path, dirs_exist_ok=True)
    file = tmp_path/'outcomes.npz.xz'
    arrays = packed.arrays(file)
    whole = sum(a.nbytes for a in arrays.values())
    monkeypatch.setattr(chapter, 'LARGEST_PACKED', 2*whole)
    packed.write_arrays(file, arrays | {next(iter(arrays)): np.zeros(2*whole, 'u1')})
    assert file.stat().st_size < whole
    with pytest.raises(UserError, match='outcomes.npz.xz: it unpacks to more than'): Runs(tmp_path)


class Boom:
    "Unpickled, it leaves a trace."
    def __init__(self, place): self.place = str(place)
    def __reduce__(self): return os.mkdir, (self.place,)


@pytest.mark.parametrize('file', ['outcomes.npz.xz', 'features.npz.xz'])
@pytest.mark.parametrize('whole', [True, False], ids=['a pickle', 'an array of objects'])
def test_a_pickle_in_a_packed_folder_is_not_run(tmp_path, file, whole):
    folder, trace = tmp_path/'packed', tmp_path/'trace'
    folder.mkdir()
    shutil.copytree(results, folder, dirs_exist_ok=True)
    if whole: (folder/file).write_bytes(lzma.compress(pickle.dumps(Boom(trace))))
    else:
        packed.write_arrays(folder/file, {k: np.array([Boom(trace)], dtype=object)
                                          for k in packed.arrays(folder/file)})
    seal(folder, PACKED)
    with pytest.raises(UserError, match=f'{file}: cannot be read'):
        for r in Runs(folder): r.features, r.outcomes
    assert not trace.exists()


@pytest.mark.parametrize('name', ['../x', '/etc/passwd', '..', ''])
def test_a_seal_that_names_a_file_elsewhere_is_refused(tiny_run, name):
    runs, folder = tiny_run
    done = json.loads((folder/SEAL).read_text())
    done['sha256'][name] = sha256(folder/'config.json')
    (folder/SEAL).write_text(json.dumps(done))
    with pytest.raises(UserError, match='names a file elsewhere'): list(Runs(runs))


# Folders of others

def test_a_checkpoint_is_not_written_through_a_link(tmp_path):
    (tmp_path/'run').mkdir()
    (tmp_path/'mine').mkdir()
    (tmp_path/'run'/FOLDER).symlink_to(tmp_path/'mine')
    with pytest.raises(UserError, match='a link to somewhere else'):
        save_checkpoint(tmp_path/'run', {}, {})
    assert not list((tmp_path/'mine').iterdir())


def test_a_fifo_does_not_hang(tmp_path):
    run = tmp_path/'runs/run'
    run.mkdir(parents=True)
    for name in (SEAL, 'lock', f'{FOLDER}/a.json'):
        (run/name).parent.mkdir(exist_ok=True)
        os.mkfifo(run/name)
    with pytest.raises(UserError, match='not a file'): list(Runs(run.parent).find(run.name))
    with pytest.raises(UserError, match='another process'):
        with locked(run): pass
    assert load_checkpoint(run) is None


def test_sha256_is_of_the_bytes(tmp_path):
    (tmp_path/'a').write_bytes(b'abc')
    assert (sha256(tmp_path/'a') ==
            'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad')
