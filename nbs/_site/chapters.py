"Notebooks as the site shows them: without nbdev's lines; with numbers and alternative texts."
import ast, base64, io, json, os, re
from pathlib import Path

from PIL import Image

from house import CFG, PARTS, package, root, toctree, write

NBS = root/'nbs'
LINK = re.compile(r'(?<=\]\()(?!\w+:|#)([^)#\s]+)')
PICTURES = 'image/png', 'image/jpeg'


def text_of(cell) -> str: return ''.join(cell['source'])


def books(part) -> list[Path]: return sorted((NBS/part).glob('[0-9][0-9]_*.ipynb'))


def number(path) -> str: return f'{path.parent.name[0]}.{int(path.stem[:2])}'


def title(path) -> str:
    first = text_of(json.loads(path.read_text(encoding='utf-8'))['cells'][0])
    return re.search(r'^# (.+)', first)[1]


def subtitle(path) -> str:
    "The sentence below the title, or nothing."
    first = text_of(json.loads(path.read_text(encoding='utf-8'))['cells'][0])
    found = re.search(r'^> (.+)', first, re.M)
    return found[1] if found else ''


def outward(text: str, home: Path) -> str:
    "Links to files that the site does not have lead to the repository."
    def there(found):
        path = (home/found[1]).resolve()
        if path.suffix == '.ipynb' or not path.exists(): return found[1]
        return f"{CFG['git_url']}/blob/{CFG['branch']}/{path.relative_to(root).as_posix()}"
    return LINK.sub(there, text)


# Alternative texts

def described(picture: Image.Image) -> str:
    "What the picture's file says of itself: our figures carry their captions."
    return picture.info.get('Description', '').split('\n')[0]


def words(source: str) -> dict:
    "What the code writes on a picture, by `title`, `xlabel`, `ylabel` and `label`."
    found = {k: {} for k in ('title', 'xlabel', 'ylabel', 'label')}
    for node in ast.walk(ast.parse(re.sub(r'^[%!].*', '', source, flags=re.M))):
        if not isinstance(node, ast.Call): continue
        named = [(k.arg, k.value) for k in node.keywords]
        how = getattr(node.func, 'attr', '').removeprefix('set_').replace('suptitle', 'title')
        if node.args: named.append((how, node.args[0]))
        for key, value in named:
            if key in found and isinstance(value, ast.Constant) and isinstance(value.value, str):
                found[key][value.value.replace('\n', ' ')] = None
    return {k: list(v) for k, v in found.items()}


def alternative(cell, picture, section: str) -> str:
    "A sentence for who does not see the picture."
    if own := described(picture): return f'{section}. {own}'
    seen = words(text_of(cell))
    axes = [' and '.join(seen[k]) for k in ('ylabel', 'xlabel')]
    parts = [section] + [' against '.join(a for a in axes if a)] * any(axes)
    parts += ['; '.join(seen['title'])] * bool(seen['title'])
    parts += ['shown: ' + ', '.join(seen['label'])] * bool(seen['label'])
    return 'Figure: ' + '. '.join(parts) + '.'


def pictures(cell) -> list[Image.Image]:
    found = [o['data'][kind] for o in cell.get('outputs', []) for kind in PICTURES
             if kind in o.get('data', {})]
    return [Image.open(io.BytesIO(base64.b64decode(''.join(f)))) for f in found]


def is_white(picture) -> bool: return picture.convert('RGB').getpixel((0, 0)) == (255, 255, 255)


# Chapters

def shown(cell, section: str, up: str) -> dict | None:
    "The cell as a reader sees it; None for one that only nbdev reads."
    source = text_of(cell)
    if cell['cell_type'] == 'markdown': return cell
    module = re.search(r'^#\| *default_exp +(\S+)', source, re.M)
    rest = re.sub(r'^#\|.*\n?', '', source, flags=re.M).strip('\n')
    if module and not rest:
        link = f'[`{package.name}.{module[1]}`]({up}api/{module[1].replace(".", "/")}.md)'
        return dict(cell_type='markdown', id=cell['id'], metadata={},
                    source=f'This chapter makes the module {link}.')
    if not rest and not cell['outputs']: return None
    cell = cell | {'source': rest}
    if drawn := pictures(cell):
        look = dict(alt=alternative(cell, drawn[0], section))
        if is_white(drawn[0]): look['classes'] = 'on-white'
        cell['metadata'] = cell['metadata'] | {'mystnb': {'image': look}}
    return cell


def chapter(path: Path) -> dict:
    "The notebook at `path`, ready for the site."
    book = json.loads(path.read_text(encoding='utf-8'))
    cells, section, up = [], title(path), os.path.relpath(NBS, path.parent) + '/'
    for cell in book['cells']:
        if cell['cell_type'] == 'markdown':
            cell['source'] = outward(text_of(cell), path.parent)
            section = (re.findall(r'^#+ (.+)', cell['source'], re.M) or [section])[-1]
        cells.append(shown(cell, section, up))
    book['cells'] = [c for c in cells if c]
    book['metadata']['language_info'] = {'name': 'python'}
    return book


def front() -> dict:
    "The first page: the README, whose hidden inputs stay out, and the table of contents."
    book = chapter(NBS/'index.ipynb')
    for cell in book['cells']:
        if 'hide-input' in cell['metadata'].get('tags', []):
            cell['metadata']['tags'] = ['remove-input']
    tree = toctree([*(f'{part}/index' for part in PARTS), 'api/index'])
    book['cells'].append(dict(cell_type='markdown', id='contents', metadata={}, source=tree))
    return book


def write_chapters(to: Path):
    "All chapters, and a page for each part."
    write(to/'index.ipynb', json.dumps(front()))
    for part, (name, says) in PARTS.items():
        there = {path: f'{number(path)} {title(path)}' for path in books(part)}
        for path, label in there.items():
            book = chapter(path)
            first = book['cells'][0]
            first['source'] = re.sub(r'^# .+', f'# {label}', text_of(first), count=1)
            write(to/part/path.name, json.dumps(book))
        lines = [f'- [{label}]({path.name}): {subtitle(path)}' for path, label in there.items()]
        tree = toctree(path.stem for path in there)
        text = '\n'.join([f'# {part[0]} {name}\n', f'{says}\n', *lines, '', tree])
        write(to/part/'index.md', text)
