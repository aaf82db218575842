"""Text for a terminal: times, tables, lines that are not too long."""
import re, textwrap


def span(seconds: float) -> str:
    "A time as people say it."
    for unit, size in (('days', 86400), ('hours', 3600), ('min', 60)):
        if seconds >= 2*size: return f'{seconds/size:.{int(seconds < 10*size)}f} {unit}'
    return f'{seconds:.0f} s'


def table(heads, rows, width: int) -> str:
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


def wrap(text: str, width: int, indent: str = '') -> str:
    "Text in lines of at most `width`, the first after `indent`."
    return textwrap.fill(text, width, initial_indent=indent, subsequent_indent=indent or '  ',
                         break_on_hyphens=False)


def printable(text: str) -> str:
    "Text with a question mark for each letter that no terminal shows."
    return ''.join(c if c.isprintable() or c == '\n' else '?' for c in text)
