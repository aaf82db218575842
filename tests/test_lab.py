"""Chapters in JupyterLab, as a reader opens them: a browser runs all cells of five of them, and
looks at what is shown, wide and narrow, light and dark."""
import json, os, shutil, socket, subprocess, sys, time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

root = Path(__file__).parents[1]
NAMES = 'chromium', 'chromium-browser', 'google-chrome'
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
CHAPTERS = ['0_start/01_tour', '1_neurons/01_neurons', '2_losses/05_tks',
            '8_results/06_tks_table3', '8_results/14_claims']
WITH_SLIDERS = '0_start/01_tour', '1_neurons/01_neurons'
WIDTHS = 1400, 1000
THEMES = {'light': 'JupyterLab Light', 'dark': 'JupyterLab Dark'}
WIDGET = 'application/vnd.jupyter.widget-view+json'
TRACKER = '@jupyterlab/notebook-extension/tracker.jupyterlab-settings'

pytestmark = [
    pytest.mark.release,
    pytest.mark.skipif('SNN_REPRO_RELEASE' not in os.environ,
                       reason='takes minutes: SNN_REPRO_RELEASE=1 pytest -m release'),
    pytest.mark.skipif(BROWSER is None, reason='no Chromium on this machine')]


def free_port() -> int:
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


@pytest.fixture(scope='module')
def lab(tmp_path_factory):
    "The address of a JupyterLab over a copy of the chapters, in a home of its own."
    home = tmp_path_factory.mktemp('lab')
    for part in ('nbs', 'results'): shutil.copytree(root/part, home/part, symlinks=True)
    settings = home/'settings'/TRACKER
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps(dict(windowingMode='none')))    # every cell is on the page
    port = free_port()
    env = dict(os.environ, HOME=str(home), JUPYTERLAB_SETTINGS_DIR=str(home/'settings'),
               OMP_NUM_THREADS='1')
    command = [sys.executable, '-m', 'jupyterlab', '--no-browser', '--allow-root', f'--port={port}',
               '--expose-app-in-browser', '--IdentityProvider.token=', '--ServerApp.port_retries=0',
               f'--ServerApp.root_dir={home/"nbs"}']
    with (home/'server.log').open('w') as log:
        server = subprocess.Popen(command, env=env, cwd=home, stdout=log, stderr=log)
    address = f'http://127.0.0.1:{port}'
    try:
        wait_for(address, server, home/'server.log')
        yield address
    finally:
        server.terminate()
        server.wait(60)


def wait_for(address: str, server, log: Path):
    for _ in range(240):
        assert server.poll() is None, log.read_text()[-2000:]
        try: return urlopen(f'{address}/api', timeout=5).close()
        except (URLError, ConnectionError, TimeoutError): time.sleep(.5)
    raise AssertionError(f'JupyterLab does not answer: {log.read_text()[-2000:]}')


@pytest.fixture(scope='module')
def browser():
    playwright = pytest.importorskip('playwright.sync_api')
    with playwright.sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=BROWSER, args=['--no-sandbox'])
        yield chromium
        chromium.close()


NOTEBOOK = 'const nb = window.jupyterapp?.shell?.currentWidget;'   # none while the page loads
READY = f'''() => {{ {NOTEBOOK}
    return nb && nb.sessionContext && nb.sessionContext.session?.kernel?.status == 'idle'
           && nb.content.widgets.length > 5 }}'''
CLEAR_AND_RUN = f'''async () => {{ {NOTEBOOK}
    await window.jupyterapp.commands.execute('notebook:clear-all-cell-outputs');
    window.finished = false;
    window.jupyterapp.commands.execute('notebook:run-all-cells')
        .then(() => {{ window.finished = true }}) }}'''
CELLS = f'''() => {{ {NOTEBOOK}
    return nb.content.model.toJSON().cells.filter(c => c.cell_type == 'code') }}'''
CLIPPED = '''() => {
    const wider = e => e.scrollWidth > e.clientWidth + 1
    const ways = e => getComputedStyle(e).overflowX
    const hides = e => ['hidden', 'clip'].includes(ways(e)) && wider(e)
    const reached = t => {
        for (let e = t; !e.classList.contains('jp-Cell'); e = e.parentElement) {
            if (hides(e)) return false
            if (['auto', 'scroll'].includes(ways(e)) && wider(e)) return true    // one can scroll
        }
        const page = t.closest('.jp-Notebook')
        return t.getBoundingClientRect().right <= page.getBoundingClientRect().right
    }
    return [...document.querySelectorAll('.jp-RenderedHTMLCommon table')]
        .filter(t => !reached(t) || [...t.querySelectorAll('td, th')].some(hides))
        .map(t => t.innerText.slice(0, 80)) }'''

VERDICTS = '''() => [...document.querySelectorAll('.jp-RenderedHTMLCommon th')]
    .filter(h => h.innerText.trim() == 'verdict')
    .map(h => [h.getBoundingClientRect().right,
               h.closest('.jp-Notebook').getBoundingClientRect().right])'''


def kinds(cell: dict) -> set[str]:
    """What a cell shows: the kinds of its results and pictures, `error` for an error. A picture
    with sliders counts as the picture in it."""
    shown = {k for o in cell['outputs'] for k in (o.get('data') or {o['output_type']: 0})}
    if WIDGET in shown: shown = shown - {WIDGET} | {'image/png'}
    return shown - {'stream'}


@pytest.fixture(scope='module')
def opened(lab, browser):
    "`opened(chapter)`: its page after all its cells have run in the browser, once."
    pages = {}
    def open_(chapter: str):
        if chapter not in pages:
            page = browser.new_page(viewport=dict(width=1400, height=1000))
            page.goto(f'{lab}/lab/tree/{chapter}.ipynb?reset')
            page.wait_for_function(READY, timeout=120_000)
            page.evaluate(CLEAR_AND_RUN)
            page.wait_for_function('() => window.finished', timeout=600_000)
            pages[chapter] = page
        return pages[chapter]
    return open_


@pytest.mark.parametrize('chapter', CHAPTERS)
def test_all_cells_run_and_show_what_is_committed(opened, chapter):
    page = opened(chapter)
    ran = page.evaluate(CELLS)
    kept = [c for c in json.loads((root/f'nbs/{chapter}.ipynb').read_text())['cells']
            if c['cell_type'] == 'code']
    assert [''.join(c['source']) for c in ran] == [''.join(c['source']) for c in kept]
    wrong = [(i, kinds(a), kinds(b)) for i, (a, b) in enumerate(zip(ran, kept))
             if 'error' in kinds(a) or not kinds(b) <= kinds(a)]
    assert not wrong
    assert sum(bool(kinds(c)) for c in ran) >= 3
    sliders = sum(WIDGET in o.get('data', {}) for c in ran for o in c['outputs'])
    assert page.locator('.jupyter-widgets img').count() == sliders
    assert sliders or chapter not in WITH_SLIDERS


def show(page, width: int, theme: str):
    "So wide, and so coloured."
    page.evaluate("name => window.jupyterapp.commands.execute('apputils:change-theme', "
                  "{theme: name})", THEMES[theme])
    page.set_viewport_size(dict(width=width, height=1000))
    light = str(theme == 'light').lower()
    page.wait_for_selector(f'body[data-jp-theme-light={light}]', state='attached')


@pytest.mark.parametrize('theme', THEMES)
@pytest.mark.parametrize('width', WIDTHS)
@pytest.mark.parametrize('chapter', CHAPTERS)
def test_no_column_is_out_of_reach(opened, tmp_path, chapter, width, theme):
    page = opened(chapter)
    show(page, width, theme)
    page.screenshot(path=tmp_path/'page.png')
    assert page.evaluate(CLIPPED) == []


def test_a_column_out_of_reach_would_be_seen(opened):
    page = opened('8_results/06_tks_table3')
    show(page, 1000, 'light')
    style = page.add_style_tag(content='.jp-RenderedHTMLCommon { overflow: hidden !important }')
    assert page.evaluate(CLIPPED)
    style.evaluate('e => e.remove()')
    assert page.evaluate(CLIPPED) == []


@pytest.mark.parametrize('width', WIDTHS)
def test_a_verdict_is_seen_without_scrolling(opened, width):
    page = opened('8_results/14_claims')
    show(page, width, 'light')
    ends = page.evaluate(VERDICTS)
    assert ends and all(verdict <= edge for verdict, edge in ends)
