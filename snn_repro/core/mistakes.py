"A mistake in a class of one's own, told in one line that names the file and the line."
import traceback
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType

from snn_repro.core.brought import is_installed
from snn_repro.core.spec import Spec, UserError, own_source


@contextmanager
def mistakes_of(*settings: Spec, remedy: str | Callable[[BaseException], str]):
    """An error of any kind inside becomes a `UserError` if one of the `settings` is of one's own:
    it names that setting, the last line of one's own files, what went wrong and the `remedy`, or
    what this says of the error. A `UserError` gets the line, unless it names the setting. Where all
    are the library's, an error stays what it is."""
    try: yield
    except MemoryError: raise
    except (Exception, SystemExit) as error:
        own = [s for s in settings if own_source(type(s))]
        told = isinstance(error, UserError)
        if not own or told and error.where.startswith(tuple(type(s).__name__ for s in own)): raise
        place = place_of(*own, error=error)
        if told:
            where = f'{place}, {error.where}' if error.where else place
            raise UserError(error.what, where, error.remedy) from error
        said = str(error).strip().partition('\n')[0]
        advice = remedy if isinstance(remedy, str) else remedy(error)
        raise UserError(f'{type(error).__name__}: {said}', place, advice) from error


def place_of(*settings: Spec, error: BaseException | None = None) -> str:
    """The names of `settings` and, where one is of one's own, a line of its file: the last one
    that `error` came through, or else where its first method begins."""
    found = own_lines(error)[-1:] or [place for s in settings for place in _methods(type(s))]
    name = ' + '.join(type(s).__name__ for s in settings)
    if not found or not any(own_source(type(s)) for s in settings): return name
    file, line = found[0]
    return f'{name} ({file if Path(file).is_file() else "a cell"}, line {line})'


def own_lines(error: BaseException | None) -> list[tuple[str, int]]:
    "The lines of one's own files that `error` came through: (file, line)."
    return [(f.filename, f.lineno) for f in traceback.extract_tb(error and error.__traceback__)
            if _is_ours(f.filename)]


def _methods(cls: type):
    "Where the methods begin that a class of one's own defines: (file, line)."
    for f in vars(cls).values():
        if isinstance(f, FunctionType) and _is_ours(f.__code__.co_filename):
            yield f.__code__.co_filename, f.__code__.co_firstlineno


def _is_ours(file: str) -> bool:
    "Whether a file is neither the library's nor installed, nor code that was made on the way."
    return not file.startswith('<') and not is_installed(Path(file).resolve())
