"Sphinx's settings; `build.py` writes the pages that it reads."
import sys
from pathlib import Path

here = Path(__file__).parent
sys.path.insert(0, str(here))

import api, mathml
from house import CFG

project, author, copyright = CFG['lib_name'], CFG['author'], CFG['copyright']
version = release = CFG['version']

extensions = ['myst_nb', 'sphinx.ext.viewcode', 'sphinx.ext.githubpages']
nb_execution_mode = 'off'   # what is shown was committed
nb_merge_streams = True
nb_render_markdown_format = 'myst'   # links and maths in outputs, too
nb_ipywidgets_js = {}   # would come from another host
myst_enable_extensions = ['dollarmath', 'amsmath', 'colon_fence']
myst_heading_anchors = 3
add_module_names = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
viewcode_follow_imported_members = False
nitpick_ignore_regex = [('py:.*', r'(?!snn_repro\.).*')]   # other libraries' names

html_theme = 'sphinx_book_theme'
html_title = project
html_static_path = [str(here/'site.css')]
html_css_files = ['site.css']
html_show_sphinx = html_copy_source = html_show_sourcelink = False
html_last_updated_fmt = None
html_theme_options = dict(
    repository_url=CFG['git_url'], repository_branch=CFG['branch'],
    use_repository_button=True, use_download_button=False, use_fullscreen_button=False,
    show_toc_level=2, show_navbar_depth=1, collapse_navbar=True, home_page_in_toc=True)


def setup(app):
    mathml.setup(app)
    app.connect('viewcode-find-source', lambda app, module: api.code_of(module))
