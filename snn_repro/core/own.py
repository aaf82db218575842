"""Settings of one's own: losses, nets and data sets from a Python file outside the library.

A file is named by the person who runs a command, never by a record: what stands in it is executed.
Its settings are then known by name as the library's are, and their source is part of a run's id:
the file, and the modules of one's own that came with it.
"""
import importlib.util, inspect, sys, traceback
from dataclasses import Field
from pathlib import Path
from types import ModuleType

from snn_repro.core.brought import BROUGHT, modules_with
from snn_repro.core.spec import Spec, UserError, check

PREFIX = 'own_'   # of the names of such modules
SCRIPT = "put what it does as a script below `if __name__ == '__main__':`"


def import_file(file) -> ModuleType:
    """The module in `file`, executed when it is first asked for. What lies beside the file can be
    imported there. Raises `UserError` where there is no such file, or it cannot be executed."""
    path = Path(file).resolve()
    check(path.suffix == '.py' and path.is_file(), 'there is no such Python file', str(file),
          'name a file that ends in .py')
    found = next((m for n, m in sys.modules.items()
                  if n.startswith(PREFIX) and getattr(m, '__file__', None) == str(path)), None)
    if found is None: return _execute(path, PREFIX + path.stem)
    check(path.read_bytes() == found.text,
          'this file was changed after it was loaded', str(file), 'start a new process')
    return found


def _execute(path: Path, name: str) -> ModuleType:
    check(name not in sys.modules, f'another file of the name {path.name} was loaded before',
          str(path), 'rename one of the two')
    spec = importlib.util.spec_from_file_location(name, path)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    module.text = path.read_bytes()
    if str(path.parent) not in sys.path: sys.path.append(str(path.parent))
    before = set(sys.modules)
    try:
        spec.loader.exec_module(module)
        for value in vars(module).values():
            if inspect.isclass(value) and issubclass(value, Spec): check_fields(value)
    except UserError:
        del sys.modules[name]
        raise
    except (Exception, SystemExit) as e:
        del sys.modules[name]
        said = e.msg if isinstance(e, SyntaxError) and e.filename == str(path) else str(e)
        ends = isinstance(e, SystemExit)
        raise UserError(f'{"it ends Python, " if ends else ""}{type(e).__name__}: {said}',
                        _line_of(e, path), SCRIPT if ends else 'mend this file') from e
    setattr(module, BROUGHT, modules_with(module, [n for n in sys.modules if n not in before]))
    _travel(module)
    return module


def _line_of(e: BaseException, path: Path) -> str:
    "The file, and the line of it at which `e` was raised."
    if isinstance(e, SyntaxError) and e.filename == str(path): return f'{path}, line {e.lineno}'
    lines = [f.lineno for f in traceback.extract_tb(e.__traceback__) if f.filename == str(path)]
    return f'{path}, line {lines[-1]}' if lines else str(path)


def _travel(module: ModuleType):
    "Let what the module defines be sent to processes that have not loaded it."
    try: from cloudpickle import register_pickle_by_value
    except ImportError: return   # then there is nobody who would send it
    register_pickle_by_value(module)


def check_fields(cls: type[Spec]):
    """Raise `UserError` where a value that stands in a setting's class, or in one that it derives
    from, would not be read: the class is no dataclass, or a field's new value has no type."""
    for c in cls.__mro__:
        if not issubclass(c, Spec): continue
        typed = [n for n, kind in inspect.get_annotations(c).items() if 'ClassVar' not in str(kind)]
        check('__dataclass_fields__' in vars(c) or not typed,
              f'its {", ".join(typed)} cannot be set, since the class is no dataclass', c.__name__,
              'write @dataclass(frozen=True, kw_only=True) in the line above the class')
        for f in c.__dataclass_fields__.values():
            check(f.name not in vars(c) or f.name in inspect.get_annotations(c) or not _is_field(f),
                  f'its {f.name} is not read, since it has no type', c.__name__,
                  f'write {f.name}: {getattr(f.type, "__name__", f.type)} = …')


def _is_field(f: Field) -> bool: return 'ClassVar' not in str(f.type)


def parted(said: str) -> tuple[Path, str]:
    "The file and the name of `FILE.py:NAME`; an empty name where there is none."
    file, colon, name = said.rpartition(':')
    return (Path(file), name) if colon and name.isidentifier() else (Path(said), '')


def pick(said: str, kind: type):
    """What `FILE.py:NAME` names: a class derived from `kind`, or any other value of that file.
    `FILE.py` alone names the only such class in it. Raises `UserError` for what is not there."""
    file, name = parted(said)
    module = import_file(file)
    known = {n: c for n, c in vars(module).items()
             if inspect.isclass(c) and issubclass(c, kind) and c.__module__ == module.__name__}
    if name:
        check(name in vars(module), f'it has no {name}', str(file),
              f'there is {", ".join(known)}' if known else f'derive a class from {kind.__name__}')
        return vars(module)[name]
    check(len(known) == 1, f'{len(known)} classes there derive from {kind.__name__}', str(file),
          f'say which: {file}:{next(iter(known))}' if known else
          f'derive a frozen dataclass from {kind.__name__}')
    return next(iter(known.values()))


def own_sources(spec: Spec) -> dict[str, dict[str, str]]:
    """The texts of all classes in `spec`, at any depth, that are not the library's: class, then
    file, then text."""
    from dataclasses import fields
    from snn_repro.core.identity import texts_of
    found, todo = {}, [spec]
    while todo:
        v = todo.pop()
        if isinstance(v, tuple): todo += v
        elif isinstance(v, Spec):
            todo += [getattr(v, f.name) for f in fields(v)]
            if texts := texts_of(type(v)): found[type(v).__name__] = texts
    return found
