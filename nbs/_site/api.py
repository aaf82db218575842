"""A page for each module of the library: public names, what they take, what their docstrings say.
The code is read, not imported, so that no page waits for torch."""
import ast, inspect, re
from functools import cache
from pathlib import Path

from sphinx.pycode import ModuleAnalyzer

from chapters import number, title
from house import CFG, package, root, toctree, write

NAMES = ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef


def modules(part: Path) -> list[Path]:
    return sorted(p for p in part.glob('*.py') if not p.name.startswith('_'))


def parts() -> list[Path]: return sorted(p.parent for p in package.glob('*/__init__.py'))


def dotted(path: Path) -> str:
    return '.'.join(path.relative_to(root).with_suffix('').parts).removesuffix('.__init__')


@cache
def code_of(module: str):
    "The source and its tags, for the pages to which `[source]` leads."
    path = root.joinpath(*module.split('.')).with_suffix('.py')
    if not path.exists(): return None
    found = ModuleAnalyzer.for_string(path.read_text(encoding='utf-8'), module)
    found.find_tags()
    return found.code, found.tags


def paragraph(text: str) -> str:
    "Markdown: the example of a session is code, and what looks like a tag is text."
    if text.startswith('>>>'): return f'```pycon\n{text}\n```'
    halves = re.split(r'(`[^`]*`)', text)
    return ''.join(h if i % 2 else re.sub(r'([<*_])', r'\\\1', h) for i, h in enumerate(halves))


def said(node) -> str:
    "A docstring as Markdown."
    text = inspect.cleandoc(ast.get_docstring(node) or '')
    return '\n\n'.join(map(paragraph, text.split('\n\n')))


def first_line(node) -> str: return re.split(r'\n\n|(?<=\.)\s', said(node))[0].replace('\n', ' ')


def decorators(node) -> list[str]: return [ast.unparse(d) for d in node.decorator_list]


def signature(node, method=False) -> str:
    "What one writes to call it."
    if isinstance(node, ast.ClassDef): return fields(node)
    args = node.args
    if method and 'staticmethod' not in decorators(node):
        (args.posonlyargs or args.args)[:1] = []
    back = f' -> {ast.unparse(node.returns)}' if node.returns else ''
    return f'({ast.unparse(args)}){back}'


def fields(node: ast.ClassDef) -> str:
    "A dataclass's fields, or what `__init__` takes."
    for n in node.body:
        if isinstance(n, ast.FunctionDef) and n.name == '__init__': return signature(n, True)
    own = [ast.unparse(n) for n in node.body if isinstance(n, ast.AnnAssign) and 'ClassVar' not in
           ast.unparse(n.annotation)]
    if not own: return ''
    only = any('kw_only=True' in d for d in decorators(node))
    return f'({"*, " * only}{", ".join(own)})'


def directive(kind, head, body, depth=3, options=()) -> str:
    fence = ':' * depth
    return '\n'.join([f'{fence}{{py:{kind}}} {head}', *options, '', body, fence, ''])


def is_setter(node) -> bool: return any(d.endswith('.setter') for d in decorators(node))


def public(node) -> bool: return isinstance(node, NAMES) and not node.name.startswith('_')


def imports(tree: ast.Module, module: str) -> dict:
    "Where names of this library come from: `{'Row': 'snn_repro.analysis.tables.Row'}`."
    home, found = module.split('.'), {}
    for n in ast.walk(tree):
        if not isinstance(n, ast.ImportFrom): continue
        there = '.'.join(home[:-n.level] if n.level else []) + '.' * bool(n.level and n.module)
        for a in n.names: found[a.asname or a.name] = f'{there}{n.module or ""}.{a.name}'
    return {k: v for k, v in found.items() if v.startswith(package.name)}


class Qualified(ast.NodeTransformer):
    "Types in full, since two modules may have the same name."
    def __init__(self, names): self.names = names

    def full(self, node):
        for n in ast.walk(node) if node else ():
            if isinstance(n, ast.Name): n.id = self.names.get(n.id, n.id)

    def visit_arg(self, node):
        self.full(node.annotation)
        return node

    def visit_FunctionDef(self, node):
        self.full(node.returns)
        return self.generic_visit(node)

    def visit_AnnAssign(self, node):
        self.full(node.annotation)
        return node


def described(node) -> str:
    "One public name, a class with its methods."
    if not isinstance(node, ast.ClassDef):
        return directive('function', node.name + signature(node), said(node))
    inside = [method(n) for n in node.body if isinstance(n, NAMES) and not is_setter(n)
              and (public(n) or n.name == '__call__' and said(n))]
    bases = ', '.join(f'`{ast.unparse(b)}`' for b in node.bases)
    body = '\n\n'.join([said(node), *[f'Bases: {bases}'] * bool(bases), *inside])
    return directive('class', node.name + fields(node), body, 4)


def method(node) -> str:
    if isinstance(node, ast.ClassDef): return directive('class', node.name, said(node))
    how = decorators(node)
    if {'property', 'cached_property'} & set(how):
        return directive('property', node.name, said(node))
    options = [f':{h}:' for h in ('classmethod', 'staticmethod') if h in how]
    return directive('method', node.name + signature(node, True), said(node), options=options)


def exported(tree: ast.Module) -> set | None:
    "The names in `__all__`, None where the module has none."
    for n in tree.body:
        if isinstance(n, ast.Assign) and getattr(n.targets[0], 'id', '') == '__all__':
            return set(ast.literal_eval(n.value))
    return None


def constants(tree: ast.Module, names: set | None) -> list[str]:
    found = [t.id for n in tree.body if isinstance(n, ast.Assign) for t in n.targets
             for t in (t.elts if isinstance(t, ast.Tuple) else [t]) if isinstance(t, ast.Name)]
    return [n for n in dict.fromkeys(found) if n.isupper() and (names is None or n in names)]


def module_page(path: Path) -> str:
    text = path.read_text(encoding='utf-8')
    name = dotted(path)
    tree = ast.parse(text)
    Qualified(imports(tree, name)).visit(tree)
    names = exported(tree)
    made = re.search(r'File to edit: \S*nbs/(\S+\.ipynb)', text)
    short_name = name.removeprefix(f'{package.name}.')
    lines = [f'# {short_name}\n', f':::{{py:module}} {name}\n:::\n', said(tree), '']
    if made:
        book = root/'nbs'/made[1]
        lines += [f'Made by chapter [{number(book)} {title(book)}](../../{made[1]}).', '']
    else:
        there = f"{CFG['git_url']}/blob/{CFG['branch']}/{path.relative_to(root).as_posix()}"
        lines += [f'Written by hand: [{path.relative_to(root).as_posix()}]({there}).', '']
    lines += [described(n) for n in tree.body if public(n) and (names is None or n.name in names)]
    lines += [directive('data', n, '') for n in constants(tree, names)]
    return '\n'.join(lines)


def short(home: Path) -> str:
    "The names that come from the part itself, with links."
    late = [n for n in ast.walk(ast.parse(home.read_text(encoding='utf-8')))
            if isinstance(n, ast.ImportFrom) and (n.module or '').startswith(package.name)]
    names = [f'{{py:obj}}`~{n.module}.{a.name}`' for n in late for a in n.names if a.name != 'lazy']
    return f'`from {dotted(home)} import …`: {", ".join(names)}.\n' if names else ''


def page(home: Path, entries: dict, tree: list) -> str:
    "An overview: what a part is for, and what is in it."
    node = ast.parse(home.read_text(encoding='utf-8'))
    lines = [f'- [`{name}`]({link}): {first_line(ast.parse(path.read_text(encoding="utf-8")))}'
             for name, (link, path) in entries.items()]
    above = [f'# {home.parent.name}\n', said(node), '', short(home)]
    return '\n'.join([*above, *lines, '', toctree(tree)])


def write_api(to: Path):
    "The library's pages: `api/index`, `api/<part>/index`, `api/<part>/<module>`."
    for part in parts():
        own = {dotted(p): (f'{p.stem}.md', p) for p in modules(part)}
        overview = page(part/'__init__.py', own, [p.stem for p in modules(part)])
        write(to/'api'/part.name/'index.md', overview)
        for p in modules(part): write(to/'api'/part.name/f'{p.stem}.md', module_page(p))
    all_parts = {dotted(p/'__init__.py'): (f'{p.name}/index.md', p/'__init__.py') for p in parts()}
    top = page(package/'__init__.py', all_parts, [f'{p.name}/index' for p in parts()])
    write(to/'api'/'index.md', re.sub('^# .+', '# Library', top, count=1))
