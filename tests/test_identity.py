"""What a run stands for: the source of a class that is not the library's is part of its key.
The library's own ids stay."""
import importlib, json, pickle, sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from conftest import NAME
from snn_repro.analysis.catalogue import contents, key_of, plan
from snn_repro.analysis.exhibits import asked, find_exhibits
from snn_repro.core import identity, own
from snn_repro.core.files import SEAL
from snn_repro.core.spec import UserError, edits, own_source
from snn_repro.experiments.experiment import Experiment
from snn_repro.experiments.tiers import TIERS, find_tier
from snn_repro.losses.objectives import CE
from snn_repro.records.runs import Runs

root = Path(__file__).parents[1]
E = asked(NAME, find_tier('mini'))[1]


@dataclass(frozen=True, kw_only=True)
class Louder(CE):
    "A term of one's own, in a file: this one."
    times: float = 100.
    def __call__(self, *a, **k):
        return {n: self.times*v for n, v in super().__call__(*a, **k).items()}


OWN = replace(E, objective=(Louder(),))


# The library's ids

def test_the_ids_of_all_records_stay():
    records = [r for f in sorted((root/'results').glob(f'*/{SEAL}')) for r in Runs(f.parent)]
    assert len(records) > 500 and all(Experiment.from_dict(r.config).id == r.id for r in records)


def test_the_ids_of_all_planned_runs_stay():
    planned = {replace(e, seed=0).id for t in TIERS.values() for e in plan(find_exhibits(), t)}
    assert planned == contents()['runs'].keys()
    assert 'source' not in json.dumps(E.to_dict())


def test_the_ids_of_version_0_1_stay():
    before = (root/'tests/ids.txt').read_text().split()
    assert len(before) == 708 and set(before) <= contents()['runs'].keys()


# A class in a file

def test_a_class_of_ones_own_has_its_source_beside_its_type():
    d = json.loads(OWN.to_json())
    assert d['objective'][0]['source'] == own_source(Louder) and len(own_source(Louder)) == 10
    again = Experiment.from_dict(d)
    assert again == OWN and again.id == OWN.id and key_of(d) == OWN.key
    assert edits(OWN, ['objective.0.times=2']).objective[0].times == 2.


def test_what_was_written_with_other_source_is_refused():
    d = json.loads(OWN.to_json())
    d['objective'][0]['source'] = '0'*10
    with pytest.raises(UserError, match='the source of Louder is another here'):
        Experiment.from_dict(d)
    d = json.loads(E.to_json())
    d['objective'][0]['source'] = '0'*10
    with pytest.raises(UserError, match='the source of TKS is another here'):
        Experiment.from_dict(d)


MINE = '''
from dataclasses import dataclass
import numpy
import near, parts.deep
from snn_repro.losses.objectives import CE
@dataclass(frozen=True, kw_only=True)
class Mine(CE):
    def __call__(self, *a, **k):
        return {n: near.scale(v) for n, v in super().__call__(*a, **k).items()}
'''


@pytest.fixture
def folder(tmp_path, monkeypatch):
    "`digits()`: of the class `Mine` of a module in this folder, read anew; and the folder."
    (tmp_path/'parts').mkdir()
    files = {'mine.py': MINE, 'near.py': 'import further\ndef scale(v): return further.factor*v\n',
             'further.py': 'factor = 1\n', 'parts/__init__.py': '', 'parts/deep.py': '',
             'aside.py': ''}
    for name, text in files.items(): (tmp_path/name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    def digits():
        for m in ('mine', 'near', 'further', 'parts', 'parts.deep'): sys.modules.pop(m, None)
        importlib.invalidate_caches()
        return own_source(importlib.import_module('mine').Mine)
    yield digits, tmp_path
    for m in ('mine', 'near', 'further', 'parts', 'parts.deep'): sys.modules.pop(m, None)


@pytest.mark.parametrize('name, matters', [
    ('mine.py', True), ('near.py', True), ('further.py', True), ('parts/__init__.py', True),
    ('parts/deep.py', True), ('aside.py', False)])
def test_the_file_counts_and_what_it_imports_from_its_folder(folder, name, matters):
    digits, home = folder
    before = digits()
    assert digits() == before
    (home/name).write_text((home/name).read_text() + '\nfactor = 100\n')
    assert (digits() != before) == matters


def test_a_file_may_lie_anywhere(folder, tmp_path_factory):
    digits, home = folder
    before, other = digits(), tmp_path_factory.mktemp('other')
    home.rename(other/'moved')
    sys.path.insert(0, str(other/'moved'))
    try: assert digits() == before
    finally: sys.path.remove(str(other/'moved'))


OWN_FILE = '''
import importlib, json
from dataclasses import dataclass
import far.deep
from pathlib import Path
from snn_repro.losses.objectives import CE
spoken = importlib.import_module('spoken')
value = importlib.import_module('unadorned').value
table = (Path(__file__).parent/'table.txt').read_text()
@dataclass(frozen=True, kw_only=True)
class {name}(CE):
    def __call__(self, *a, **k):
        import late
        return super().__call__(*a, **k)
'''
AFAR = {'far/__init__.py': 'from . import beside', 'far/deep.py': 'from .beside import x',
        'far/beside.py': 'x = 1', 'far/not_asked_for.py': '', 'spoken.py': 'import further_off',
        'further_off.py': 'import json, numpy', 'unadorned.py': 'value = 3', 'late.py': '',
        'aside.py': ''}


@pytest.fixture
def afar(tmp_path, monkeypatch):
    """`texts(name='mine')`: of the class of a file whose modules lie elsewhere, executed anew; the
    folder of the file and that of its modules."""
    home, ext = tmp_path/'home', tmp_path/'ext'
    for folder, files in ((home, {'table.txt': '1'}), (ext, AFAR)):
        for name, text in files.items():
            (folder/name).parent.mkdir(parents=True, exist_ok=True)
            (folder/name).write_text(text)
    def forget():
        for n in [n for n in sys.modules if n.startswith(own.PREFIX)
                  or n.split('.')[0] in {Path(f).parts[0].removesuffix('.py') for f in AFAR}]:
            del sys.modules[n]
        importlib.invalidate_caches()
    monkeypatch.setattr(sys, 'path', [*sys.path, str(ext)])
    monkeypatch.setattr(sys, 'dont_write_bytecode', True)   # two texts within a second
    def texts(name='mine', again=True):
        if again: forget()
        (home/f'{name}.py').write_text(OWN_FILE.format(name=f'Class{name}'))
        cls = getattr(own.import_file(home/f'{name}.py'), f'Class{name}')
        return own_source(cls), identity.texts_of(cls)
    yield texts, home, ext
    forget()


COUNTED = {'far', 'far.deep', 'far.beside', 'spoken', 'further_off', 'unadorned', 'late'}


@pytest.mark.parametrize('name', AFAR)
def test_what_a_file_brings_in_from_elsewhere_counts(afar, name):
    texts, _, ext = afar
    before, held = texts()
    assert held.keys() == {'self', *COUNTED} and texts()[0] == before
    (ext/name).write_text(AFAR[name] + '\nchanged = 1\n')
    assert (texts()[0] != before) == (name not in ('aside.py', 'far/not_asked_for.py'))


def test_what_a_file_reads_is_not_seen_and_its_place_does_not_matter(afar, tmp_path):
    texts, home, ext = afar
    before = texts()[0]
    (home/'table.txt').write_text('2')
    assert texts()[0] == before
    ext.rename(tmp_path/'moved')
    sys.path.append(str(tmp_path/'moved'))
    assert texts()[0] == before


def test_what_another_file_brought_in_before_counts_as_well(afar):
    texts, _, ext = afar
    texts('first')
    _, held = texts('second', again=False)
    assert held.keys() - {'self'} == COUNTED - {'unadorned'}   # of which only a number is left


def test_what_is_beside_a_file_counts_once_also_by_importlib(afar):
    texts, home, ext = afar
    for name in ('spoken.py', 'late.py'): (ext/name).rename(home/name)
    held = texts()[1].keys()
    assert held == {'self', 'spoken.py', 'late.py', *COUNTED} - {'spoken', 'late'}


def test_the_source_of_a_file_that_brings_in_nothing_else_stays(tmp_path):
    (tmp_path/'steady.py').write_text(MINE.replace('near, parts.deep', 'near').replace(
        'class Mine', 'class Steady'))
    (tmp_path/'near.py').write_text('import json, torch, PIL.Image\ndef scale(v): return v\n')
    cls = own.import_file(tmp_path/'steady.py').Steady
    try: assert own_source(cls) == '4012174238'   # as in version 0.2
    finally:
        for n in ('own_steady', 'near'): sys.modules.pop(n, None)


# A class in a notebook

@pytest.fixture
def notebook(monkeypatch):
    "`cell(text)`: run it as a notebook does; gives the names that it has defined."
    from IPython.core.interactiveshell import InteractiveShell
    for name in ('__main__', 'builtins'): monkeypatch.setitem(sys.modules, name, sys.modules[name])
    monkeypatch.setattr(sys, 'displayhook', sys.displayhook)
    monkeypatch.setattr(sys, 'excepthook', sys.excepthook)
    shell = InteractiveShell()
    shell.history_manager.enabled = False
    def cell(text):
        shell.run_cell(text, store_history=True).raise_error()
        return shell.user_ns
    cell('from dataclasses import dataclass\nimport torch\n'
         'from snn_repro.losses.objectives import CE, Objective\n'
         'from snn_repro.core.spec import check, own_source')
    return cell


TERM = '''
@dataclass(frozen=True, kw_only=True)
class Term(CE):
    weight: float = 1.
    def __call__(self, *a, **k):
        return {n: louder(self.weight*v) for n, v in super().__call__(*a, **k).items()}
'''


def test_in_a_notebook_the_class_counts_and_what_it_refers_to(notebook):
    def digits(*cells):
        for c in cells: found = notebook(c)
        return own_source(found['Term'])
    by = 'def louder(v): return factor*v'
    first = digits('factor = 1', by, TERM)
    assert digits(TERM) == first == digits('aside = 3', TERM) == digits('# said beside\n' + TERM)
    others = [digits('factor = 2', TERM), digits('factor = 1', by + ' + 1', TERM),
              digits(by, TERM.replace('weight*v', 'weight*v*100')),
              digits('factor = torch.ones(3)', by, TERM), digits('factor = torch.zeros(3)', TERM)]
    assert len({first, *others}) == 6
    assert digits('factor = iter([])', TERM) == digits('factor = iter([])', TERM)


def test_a_class_without_methods_counts_too(notebook):
    text = '@dataclass(frozen=True, kw_only=True)\nclass Plain(CE):\n    times: float = %s'
    one, two, again = (own_source(notebook(text % v)['Plain']) for v in (1., 2., 1.))
    assert one == again != two


def test_it_travels_with_the_class_to_another_process(notebook):
    import cloudpickle
    notebook('def louder(v): return v')
    term = notebook(TERM)['Term']
    digits = own_source(term)
    assert own_source(pickle.loads(cloudpickle.dumps(term))) == digits


@pytest.mark.slow
def test_what_has_no_source_is_refused_in_one_line():
    said = {}
    exec('from dataclasses import dataclass\nfrom snn_repro.losses.objectives import CE\n'
         '@dataclass(frozen=True, kw_only=True)\n'
         'class Nowhere(CE):\n    def __call__(self, *a): return {}\n', said)
    said['Nowhere'].__module__ = '__main__'
    words = 'Nowhere: the source of this class cannot be found.*in a file or in a cell'
    with pytest.raises(UserError, match=words): replace(E, objective=(said['Nowhere'](),)).id


def test_a_function_without_source_is_named(notebook):
    notebook('exec("def louder(v): return v")')
    term = notebook(TERM)['Term']
    words = 'Term: it refers to louder, whose source cannot be found'
    with pytest.raises(UserError, match=words): own_source(term)


# A name of the library

def exported(chapter: str) -> list[str]:
    cells = json.loads((root/f'nbs/{chapter}.ipynb').read_text())['cells']
    code = [''.join(c['source']) for c in cells if c['cell_type'] == 'code']
    return [text for text in code if text.startswith('#| export')]


def test_a_chapter_that_shows_the_librarys_class_has_its_ids(notebook):
    for text in exported('2_losses/05_tks'): found = notebook(text)
    assert found['TKS'].__module__ == '__main__' and own_source(found['TKS']) == ''
    term = found['TKS'](temperature=E.objective[0].temperature, peak=E.objective[0].peak)
    assert replace(E, objective=(term,)).id == E.id


@pytest.mark.parametrize('old, new', [
    ('"""Temporal', '"""Another'), ('def teacher_of', 'def teacher_of_old')])
def test_a_class_that_bears_a_library_name_with_other_source_is_refused(notebook, old, new):
    cells = exported('2_losses/05_tks')
    assert any(old in text for text in cells)
    for text in cells: found = notebook(text.replace(old, new))
    if 'old' in new: notebook('def teacher_of(*a, **k): return None')
    words = "TKS: this is not the library's TKS, whose name it bears.*another name"
    with pytest.raises(UserError, match=words): replace(E, objective=(found['TKS'](),)).id


def test_a_TKS_of_ones_own_is_no_run_of_the_library(notebook):
    mine = notebook('@dataclass(frozen=True, kw_only=True)\nclass TKS(Objective):\n'
                    '    parts = ("tks",)\n    def __call__(self, *a): return {}')['TKS']
    with pytest.raises(UserError, match="not the library's TKS"): replace(E, objective=(mine(),)).id
