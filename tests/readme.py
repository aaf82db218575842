"README.md from nbs/index.ipynb: `python tests/readme.py` writes it and its pictures."
from pathlib import Path

root = Path(__file__).parents[1]
PICTURES = 'nbs/pictures'


def readme() -> dict:
    "File contents by path from the root: README.md, and the pictures that the index shows."
    import nbformat
    from nbconvert import MarkdownExporter
    nb = nbformat.read(root/'nbs/index.ipynb', 4)
    nb.metadata.language_info = {'name': 'python'}            # cleaned notebooks lack it, and fences would lose their language
    exporter = MarkdownExporter(exclude_input_prompt=True, exclude_output_prompt=True)
    exporter.register_preprocessor('nbconvert.preprocessors.TagRemovePreprocessor', enabled=True)
    text, resources = exporter.from_notebook_node(drop_hidden(nb), {'output_files_dir': PICTURES})
    return {'README.md': text.strip().encode() + b'\n'} | resources['outputs']


def drop_hidden(nb):
    "Without the code of cells tagged `hide-input`; what they show stays."
    for cell in nb.cells:
        if 'hide-input' in cell.metadata.get('tags', []): cell.transient = {'remove_source': True}
    return nb


if __name__ == '__main__':
    for path, content in readme().items():
        (root/path).parent.mkdir(exist_ok=True)
        (root/path).write_bytes(content)
