"README.md from nbs/index.ipynb: `python tests/readme.py` writes it and its pictures."
import io, re
from pathlib import Path

root = Path(__file__).parents[1]
PICTURES = 'nbs/pictures'


def caption(picture: bytes) -> str:
    "What a figure's file says of itself, for who does not see it."
    from PIL import Image
    return Image.open(io.BytesIO(picture)).info['Description'].split('\n')[0]


def readme() -> dict:
    """File contents by path from the root: README.md, and the pictures that the index shows. Of
    cells tagged `hide-input` only the output stays."""
    import nbformat
    from nbconvert import MarkdownExporter
    from nbconvert.preprocessors import TagRemovePreprocessor
    nb = nbformat.read(root/'nbs/index.ipynb', 4)
    # cleaned notebooks lack it, and fences would lose their language
    nb.metadata.language_info = {'name': 'python'}
    exporter = MarkdownExporter()
    exporter.register_preprocessor(TagRemovePreprocessor(remove_input_tags={'hide-input'}),
                                   enabled=True)
    text, resources = exporter.from_notebook_node(nb, {'output_files_dir': PICTURES})
    text = re.sub(r'\]\((\d_\w+/)', r'](nbs/\1', text)   # links, from where README is
    text = text.replace('](../', '](')
    for path, picture in resources['outputs'].items():
        text = text.replace(f'![png]({path})', f'![{caption(picture)}]({path})')
    lines = '\n'.join(l.rstrip() for l in text.splitlines())
    while '\n\n\n' in lines: lines = lines.replace('\n\n\n', '\n\n')
    return {'README.md': lines.strip().encode() + b'\n'} | resources['outputs']


if __name__ == '__main__':
    files = readme()
    for old in (root/PICTURES).glob('*'):
        if f'{PICTURES}/{old.name}' not in files: old.unlink()
    for path, content in files.items():
        (root/path).parent.mkdir(exist_ok=True)
        (root/path).write_bytes(content)
