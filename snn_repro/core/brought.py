"""What a Python file brings in: the modules of one's own that are executed with it, wherever they
lie. Those of the library, of Python and of installed packages are not looked at.
"""
import ast, os, site, sys, sysconfig, types
from collections.abc import Iterable, Iterator
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

LIBRARY = Path(__file__).parents[1]
BROUGHT = '_brought'   # of a module: what it brought in when it was executed (`modules_with`)
MAINS = '__main__', '__mp_main__'   # what was started, which no file brings in

Named = list[tuple[str, Path]]


class NoSource(Exception):
    "Why a class cannot be told from others, and what to do about it."
    def __init__(self, what: str, remedy: str): self.what, self.remedy = what, remedy


# The text of a file

def texts_with(file: Path, module: types.ModuleType | None = None) -> dict[str, bytes]:
    """The contents of a file, as 'self', and of what it brings in, at any depth: of what lies in
    its own folder by path, of any other by the module's name. It is what import statements name,
    and what the file `module` brought in when it was executed. Raises `NoSource`."""
    home, found = file.parent, {}
    brought = getattr(module, BROUGHT, {}) if file_of(module) == file else {}
    todo = [('self', file), *_labelled(brought.items(), home)]
    while todo:
        name, path = todo.pop()
        if name in found or name != 'self' and path == file: continue
        try: found[name] = path.read_bytes()
        except OSError as e:
            raise NoSource(f'its source cannot be read ({e.strerror})', f'restore {path}') from e
        todo += _imported(name, path, found[name], home)
    return found


def _labelled(modules: Iterable[tuple[str, Path]], home: Path) -> Named:
    return [(p.relative_to(home).as_posix() if p.is_relative_to(home) else n, p)
            for n, p in modules]


def _imported(name: str, path: Path, text: bytes, home: Path) -> Named:
    "The files that the import statements of a file name."
    found, module = [], '' if name == 'self' or name.endswith('.py') else name
    package = module.split('.') if path.name == '__init__.py' else module.split('.')[:-1]
    for level, asked in _asked(text):
        if level and module:
            found += _located('.'.join([*package[:len(package) - level + 1], asked]).strip('.'))
        elif level and level <= len(path.parents):
            found += [(os.path.relpath(p, home), p)
                      for p in _files(path.parents[level - 1], asked)]
        else:
            found += [(p.relative_to(home).as_posix(), p) for p in _files(home, asked)]
            found += _located(asked)
    return [(n, p) for n, p in _labelled(found, home) if not p.is_relative_to(LIBRARY)
            and (p.is_relative_to(home) or not is_installed(p))]


def _asked(text: bytes) -> Iterator[tuple[int, str]]:
    "What import statements ask for: the number of dots, and a dotted name."
    try: nodes = list(ast.walk(ast.parse(text)))
    except (SyntaxError, ValueError, RecursionError): return
    for n in nodes:
        if isinstance(n, ast.Import): yield from ((0, a.name) for a in n.names)
        elif isinstance(n, ast.ImportFrom):
            yield n.level, n.module or ''
            yield from ((n.level, f'{n.module or ""}.{a.name}'.strip('.')) for a in n.names)


def _files(base: Path, name: str) -> list[Path]:
    """The files that the import of a dotted name below `base` reads.
    These are those of its packages, and its own."""
    steps = [base.joinpath(*name.split('.')[:i]) for i in range(1, name.count('.') + 2)]
    return [p.resolve() for s in steps for p in (s.with_suffix('.py'), s/'__init__.py')
            if name and p.is_file()]


def _located(name: str) -> Named:
    "The same wherever it lies, with the module's name; nothing is executed for it."
    try: spec = find_spec(name.partition('.')[0])
    except (ImportError, ValueError, AttributeError): return []
    if not spec: return []
    places = [Path(p).parent for p in spec.submodule_search_locations or [spec.origin or '']]
    steps = ['.'.join(name.split('.')[:i]) for i in range(1, name.count('.') + 2)]
    return [(step, _files(place, step)[-1]) for place in places for step in steps
            if _is_there(place.joinpath(*step.split('.')))]


def _is_there(place: Path) -> bool:
    return place.with_suffix('.py').is_file() or (place/'__init__.py').is_file()


# The modules of a process

def modules_with(module: types.ModuleType, new: Iterable[str]) -> dict[str, Path]:
    """The files of the modules that are `new` since `module` was executed, and of those that were
    there before and that it refers to, at any depth."""
    found, todo = {}, [*new, *_values(module)]
    while todo:
        name = todo.pop()
        other = sys.modules.get(name)
        path = file_of(other)
        if name in found or name in MAINS or other is module: continue
        if not path or is_installed(path): continue
        found[name] = path
        todo += _values(other)
    return found


def _values(module: types.ModuleType) -> list[str]:
    "The names of the modules that a module's values are, or come from."
    values = list(vars(module).values())
    from_ = (v if isinstance(v, (type, types.FunctionType)) else type(v) for v in values)
    names = [*(v.__name__ for v in values if isinstance(v, types.ModuleType)),
             *(v.__module__ for v in from_)]
    return [n for n in dict.fromkeys(names) if isinstance(n, str)]


def file_of(module: types.ModuleType | None) -> Path | None:
    "The file of a module, where there is one."
    file = getattr(module, '__file__', None)
    return Path(file).resolve() if isinstance(file, str) and Path(file).is_file() else None


@lru_cache(maxsize=None)
def _elsewhere() -> list[Path]:
    installed = [sysconfig.get_paths()[k] for k in ('stdlib', 'platstdlib', 'purelib', 'platlib')]
    installed += [*site.getsitepackages(), site.getusersitepackages()]
    return [LIBRARY, *(Path(p).resolve() for p in installed)]


def is_installed(file: Path) -> bool:
    "Whether a file is the library's, or Python's, or lies where packages are installed."
    return (not {'site-packages', 'dist-packages'}.isdisjoint(file.parts)
            or any(file.is_relative_to(p) for p in _elsewhere()))
