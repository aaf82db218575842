"""Text for a terminal: times, tables, lines that are not too long, names that were mistyped; and
whether to be quiet."""
import os, re, textwrap
from contextlib import contextmanager

QUIET = 'SNN_REPRO_QUIET'   # of the environment, so that a process that is started is quiet, too


def is_quiet() -> bool:
    "Whether only what came out, and errors, are to be printed."
    return bool(os.environ.get(QUIET))


def no_bars() -> bool | None:
    "What tqdm's `disable` is to be: True where it is quiet, None (no terminal, no bar) elsewhere."
    return True if is_quiet() else None


@contextmanager
def quiet(wanted: bool):
    "Be quiet for a while, if that is `wanted`."
    before = os.environ.get(QUIET)
    if wanted: os.environ[QUIET] = '1'
    try: yield
    finally:
        if wanted and before is None: del os.environ[QUIET]

from snn_repro.core.spec import dotted


def span(seconds: float) -> str:
    "A time as people say it."
    for unit, size in (('days', 86400), ('hours', 3600), ('min', 60)):
        if seconds >= 2*size: return f'{seconds/size:.{int(seconds < 10*size)}f} {unit}'
    return f'{seconds:.0f} s'


def plural(n: int, what: str) -> str: return f'{n} {what}{"s"*(n != 1)}'


def amount(n: int) -> str:
    "A number of bytes as people say it: 21 kB, 1.2 GB."
    for unit, size in (('GB', 1e9), ('MB', 1e6), ('kB', 1e3)):
        if n >= .9995*size: return f'{n/size:.{int(n < 9.95*size)}f} {unit}'
    return f'{n} bytes'


def text_table(heads, rows, width: int) -> str:
    """Rows of text under their heads; where that is wider than `width`, the first cell of each row
    stands alone and the others below it."""
    rows = [tuple(map(str, r)) for r in rows]
    widths = [max(map(len, column)) for column in zip(heads, *rows)]
    if sum(widths) + 2*(len(widths) - 1) <= width:
        right = [all(re.fullmatch('[+-]?[0-9.]+|–', r[i]) for r in rows) for i in range(len(heads))]
        line = lambda cells: '  '.join(c.rjust(w) if r else c.ljust(w)
                                       for c, w, r in zip(cells, widths, right)).rstrip()
        return '\n'.join([line(heads), line(['-'*w for w in widths]), *map(line, rows)])
    below = lambda r: wrap(', '.join(f'{h} {c}' for h, c in zip(heads[1:], r[1:])), width, '  ')
    return '\n'.join([heads[0], '-'*len(heads[0]),
                      *(f'{wrap(r[0], width)}\n{below(r)}' for r in rows)])


def differences(title: str, a: dict, b: dict, width: int) -> str:
    "The entries at which two nested dicts differ, as a table; or a line that says there are none."
    a, b = dotted(a), dotted(b)
    text = lambda d, k: '–' if k not in d else v if len(v := str(d[k])) < 60 else f'{v[:16]}…'
    rows = [(k, text(a, k), text(b, k))
            for k in dict.fromkeys([*a, *b]) if a.get(k, a) != b.get(k, b)]
    return text_table((title, 'A', 'B'), rows, width) if rows else f'{title}: the same.'


def wrap(text: str, width: int, indent: str = '') -> str:
    "Text in lines of at most `width`, the first after `indent`."
    return textwrap.fill(text, width, initial_indent=indent, subsequent_indent=indent or '  ',
                         break_on_hyphens=False)


def printable(text: str) -> str:
    "Text with a question mark for each letter that no terminal shows."
    return ''.join(c if c.isprintable() or c == '\n' else '?' for c in text)


def near(name: str, known) -> str:
    "A question that names the nearest of the `known` names; empty if none is near."
    from difflib import get_close_matches
    return ''.join(f'did you mean {n}? ' for n in get_close_matches(name, known, 1))
