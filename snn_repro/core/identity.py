"""The source of a class: what makes a run another one, though names and fields are the same.

A class of the library is known by the library's version. Of any other the text counts: that of its
file and of every module that this file brings in and that is not installed (`core.brought`); in a
notebook that of the class and of what it refers to there. What the code reads from files is not
seen.
"""
import ast, hashlib, inspect, linecache, symtable, sys, textwrap, types
from functools import lru_cache
from pathlib import Path

from snn_repro.core.brought import LIBRARY, NoSource, file_of, is_installed, texts_with

MARK = '_source'
PLAIN = (bool, int, float, complex, str, bytes, type(None))


def source_of(cls) -> str:
    """Ten digits of the SHA-256 of a class's source.
    Empty for one of the library's own, and for a copy of it with the same source. It stays with
    the class, also where that travels to another process. Raises `NoSource`."""
    if MARK not in vars(cls): setattr(cls, MARK, _source_of(cls))
    return vars(cls)[MARK]


def _source_of(cls) -> str:
    here = getattr(sys.modules.get(cls.__module__), cls.__name__, None)
    if here is cls and cls.__module__.startswith('snn_repro.'): return ''
    file, text = _place_of(cls)
    if module := _settings().get(cls.__name__):
        if text and all(_same(own, theirs) for own, theirs in _beside(cls, text, module)): return ''
        raise NoSource(f'this is not the library\'s {cls.__name__}, whose name it bears',
                       'give the class another name, or, if you develop the library, '
                       'export its chapter')
    if not (file or text):
        raise NoSource('the source of this class cannot be found, and a run has to name it',
                       'write the class in a file or in a cell of a notebook')
    return _digits(_parts(cls, file, text))[:10]


def _parts(cls, file: Path | None, text: str) -> dict[str, bytes]:
    return texts_with(file, sys.modules.get(cls.__module__)) if file else _referred(cls, text)


def texts_of(cls) -> dict[str, str]:
    "What `source_of` hashes, by name: nothing for a class of the library. Raises `NoSource`."
    if not source_of(cls): return {}
    file, text = _place_of(cls)
    found = _parts(cls, file, text) if file or text else {}
    return {k: v.decode('utf-8', 'replace') for k, v in sorted(found.items())}


def _digits(parts: dict[str, bytes]) -> str:
    h = hashlib.sha256()
    for name, content in sorted(parts.items()):
        h.update(f'{name}\0{len(content)}\0'.encode() + content)
    return h.hexdigest()


# Where the text of a class stands

def _place_of(cls) -> tuple[Path | None, str]:
    """The file that has a class (None for a notebook's cell), and the text of its statement.
    The text is empty where there is none."""
    named = [c.co_filename for f in vars(cls).values()
             if (c := _code(f)) and not c.co_filename.startswith('<string>')]
    module = vars(sys.modules.get(cls.__module__, sys))
    file, name = module.get('__file__'), cls.__qualname__.rpartition('.')[2]
    for f in dict.fromkeys([*named, *([file] if file else [])]):
        if text := _statement(''.join(linecache.getlines(f)), name):
            return (Path(f).resolve() if Path(f).is_file() else None), text
    cells = [*reversed(module.get('In', ())),
             *(''.join(linecache.getlines(f)) for f in reversed(linecache.cache)
               if not Path(f).is_file())]
    return None, next((text for cell in cells if (text := _statement(cell, name))), '')


def _code(o) -> types.CodeType | None:
    "The code of a function, method or property."
    o = getattr(o, 'fget', None) or getattr(o, '__func__', o)
    return getattr(inspect.unwrap(o), '__code__', None) if callable(o) else None


def _statement(text: str, name: str) -> str:
    """The last `class` or `def` statement of that name in a text, with its decorators.
    Empty where there is none."""
    try: found = [n for n in ast.walk(ast.parse(text))
                  if isinstance(n, (ast.ClassDef, ast.FunctionDef)) and n.name == name]
    except (SyntaxError, ValueError, RecursionError): return ''
    if not found: return ''
    first = min([found[-1].lineno, *(d.lineno for d in found[-1].decorator_list)])
    lines = text.splitlines()[first - 1:found[-1].end_lineno]
    return textwrap.dedent('\n'.join(line.rstrip() for line in lines))


# A class in a notebook

def _referred(cls, text: str) -> dict[str, bytes]:
    """The texts of a class of a notebook and of what it refers to, at any depth, by name.
    Of other values what they are."""
    world, found, todo = _world(cls), {}, [(cls.__name__, text)]
    while todo:
        name, text = todo.pop()
        if name in found: continue
        found[name] = text.encode('utf-8', 'surrogatepass')
        if not _is_statement(name, world, cls): continue
        todo += [(n, _told(world[n], cls.__module__))
                 for n in _globals(text) if n in world and n not in found]
    return found


def _is_statement(name: str, world: dict, cls) -> bool:
    "Whether a name stands for a class or function of the notebook that has `cls`."
    value = world.get(name, cls) if name != cls.__name__ else cls
    value = inspect.unwrap(value) if callable(value) else value
    return isinstance(value, (type, types.FunctionType)) and value.__module__ == cls.__module__


def _world(cls) -> dict:
    "The names that a class sees."
    functions = (inspect.unwrap(f) for f in vars(cls).values()
                 if isinstance(f, types.FunctionType) and _code(f).co_filename != '<string>')
    return next((f.__globals__ for f in functions), None) or vars(sys.modules[cls.__module__])


def _told(value, module: str) -> str:
    """What stands for a value in a notebook.
    The text of a class or function, the file of a module of one's own, a plain value, or the kind
    of anything else."""
    plain = inspect.unwrap(value) if callable(value) else value
    if isinstance(plain, (type, types.FunctionType)):
        if plain.__module__ == module: return _cell(plain)
        plain = sys.modules.get(plain.__module__)
    if isinstance(plain, types.ModuleType): return _of_module(plain)
    if _is_plain(plain): return repr(plain)
    if hasattr(plain, 'detach'): plain = plain.detach().cpu().numpy()
    if hasattr(plain, 'tobytes') and hasattr(plain, 'shape'):
        return f'{plain.dtype} {plain.shape} {hashlib.sha256(plain.tobytes()).hexdigest()}'
    return f'{type(plain).__module__}.{type(plain).__qualname__}'


def _cell(o) -> str:
    if isinstance(o, types.FunctionType):
        text = _statement(''.join(linecache.getlines(o.__code__.co_filename)), o.__name__)
    else: text = _place_of(o)[1]
    if not text:
        raise NoSource(f'it refers to {o.__name__}, whose source cannot be found',
                       'define that with `def` or `class`, in a file or in a cell of a notebook')
    return text


def _of_module(m: types.ModuleType) -> str:
    file = file_of(m)
    return _digits(texts_with(file, m)) if file and not is_installed(file) else m.__name__


def _is_plain(v) -> bool:
    if isinstance(v, dict): return all(_is_plain(k) and _is_plain(o) for k, o in v.items())
    return all(map(_is_plain, v)) if type(v) in (tuple, list) else type(v) in PLAIN


def _globals(text: str) -> set[str]:
    "The names that a statement takes from around it."
    def walk(table, inside):
        yield from (s.get_name() for s in table.get_symbols()
                    if s.is_referenced() and (s.is_global() or not inside))
        for child in table.get_children(): yield from walk(child, True)
    return set(walk(symtable.symtable(text, 'cell', 'exec'), False))


# A copy of a library's class

@lru_cache(maxsize=None)
def _settings() -> dict[str, Path]:
    "The files of the library's settings by the class's name."
    found = {}
    for path in sorted(LIBRARY.rglob('*.py')):
        for n in ast.parse(path.read_text(encoding='utf-8')).body:
            if not isinstance(n, ast.ClassDef): continue
            if any('frozen' in ast.unparse(d) for d in n.decorator_list): found[n.name] = path
    return found


def _beside(cls, text: str, module: Path):
    """The texts of a class and of the functions and classes that it refers to in its notebook.
    Each stands beside that of the library's file; None for what that lacks."""
    world, theirs = _world(cls), module.read_text(encoding='utf-8')
    seen, todo = set(), [(cls.__name__, text)]
    while todo:
        name, text = todo.pop()
        yield text, _statement(theirs, name)
        seen.add(name)
        for n in _globals(text) - seen:
            if n in world and _is_statement(n, world, cls):
                todo.append((n, _cell(inspect.unwrap(world[n]))))


def _same(own: str, theirs: str) -> bool: return bool(theirs) and _tree(own) == _tree(theirs)


def _tree(text: str) -> str:
    """A statement without its layout, and what it imports by the last name alone.
    A chapter says `snn_repro.x` where the module says `.x`."""
    tree = ast.parse(text)
    for n in ast.walk(tree):
        if isinstance(n, ast.ImportFrom): n.module, n.level = (n.module or '').rpartition('.')[2], 0
    return ast.dump(tree)
