"""Previous and next, in a last cell of each chapter: `python tests/neighbours.py` writes them. No
notebook is run for it."""
from pathlib import Path

from execnb.nbio import mk_cell, read_nb, write_nb

root = Path(__file__).parents[1]
ID = 'previous-next'


def chapters(nbs: Path) -> list[Path]:
    "All chapters in their order."
    return sorted(nbs.glob('[0-9]_*/[0-9][0-9]_*.ipynb'))


def link(path: Path) -> str:
    "A chapter's number and title, linked from any other chapter."
    title = read_nb(path).cells[0].source.splitlines()[0].removeprefix('# ')
    folder = path.parent.name
    return f'[{folder[0]}.{int(path.stem[:2])} {title}](../{folder}/{path.name})'


def last_cells(nbs: Path) -> dict[Path, str]:
    "The text of each chapter's last cell."
    books = chapters(nbs)
    links = list(map(link, books))
    before, after = [None, *links[:-1]], [*links[1:], None]
    return {path: ' · '.join([*([f'← {b}'] if b else []), '[Contents](../index.ipynb)',
                              *([f'{a} →'] if a else [])])
            for path, b, a in zip(books, before, after)}


def write(nbs: Path = root/'nbs'):
    "Renew the last cells; a file that is right already is not touched."
    for path, text in last_cells(nbs).items():
        nb, cell = read_nb(path), mk_cell(text, cell_type='markdown')
        cell['id'], cell['metadata'] = ID, {'tags': ['remove-cell']}   # the site has its own
        nb['cells'] = [c for c in nb.cells if c['id'] != ID] + [cell]
        write_nb(nb, path)


if __name__ == '__main__': write()
