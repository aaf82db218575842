"The site: every link inside it leads somewhere, and it needs no network."
import os, re, subprocess, sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

root = Path(__file__).parents[1]
NETWORK = re.compile(r'(?:https?:)?//[\w.-]+\.\w')
LOADED = {'script': 'src', 'img': 'src', 'link': 'href', 'source': 'src', 'iframe': 'src',
          'audio': 'src', 'video': 'src', 'embed': 'src', 'object': 'data'}


class Page(HTMLParser):
    "Ids, links, what is loaded, pictures and formulas of one page."
    def __init__(self, path):
        super().__init__()
        self.ids, self.links, self.loaded, self.silent, self.formulas = set(), [], [], [], 0
        self.path, self.styles, self.inside = path, '', None
        self.feed(path.read_text(encoding='utf-8'))

    def handle_starttag(self, tag, attrs):
        seen = dict(attrs)
        self.ids |= {seen[k] for k in ('id', 'name') if seen.get(k)}
        if tag == 'a' and seen.get('href'): self.links.append(seen['href'])
        if seen.get(LOADED.get(tag)): self.loaded.append(seen[LOADED[tag]])
        if tag == 'img' and not seen.get('alt', '').strip(): self.silent.append(seen.get('src'))
        self.formulas += tag == 'math'
        self.styles += seen.get('style') or ''
        self.inside = tag

    def handle_data(self, data):
        if self.inside == 'style': self.styles += data


def astray(page, pages) -> list[str]:
    "Links of a page that lead nowhere in the site."
    wrong = []
    for link in page.links:
        if re.match(r'\w+:', link): continue
        target, mark = urldefrag(unquote(link))
        there = (page.path.parent/target).resolve() if target else page.path
        if not there.exists(): wrong.append(link)
        elif mark and there in pages and mark not in pages[there].ids: wrong.append(link)
    return wrong


def from_outside(text: str) -> list[str]:
    "Fonts, pictures and styles that a style sheet fetches from another host."
    return [u for u in re.findall(r'''(?:url\(|@import\s+)['"]?([^'")]+)''', text)
            if NETWORK.match(u)]


release = pytest.mark.release   # the site takes most of a minute to build


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    if not os.environ.get('SNN_REPRO_RELEASE'): pytest.skip('takes a minute: `make release-test`')
    pytest.importorskip('sphinx_book_theme', reason="needs the extra 'docs'")
    to = tmp_path_factory.mktemp('site')
    done = subprocess.run([sys.executable, root/'nbs/_site/build.py', to], capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return to/'html'


@pytest.fixture(scope='module')
def pages(site): return {p.resolve(): Page(p) for p in site.rglob('*.html')}


@release
def test_every_chapter_and_every_module_has_a_page(site, pages):
    chapters = {p.relative_to(root/'nbs').with_suffix('.html')
                for p in root.glob('nbs/[0-9]*/*.ipynb')}
    modules = {Path('api', p.relative_to(root/'snn_repro')).with_suffix('.html')
               for p in root.glob('snn_repro/*/*.py') if not p.name.startswith('_')}
    assert len(chapters) > 90 and len(modules) > 70
    assert not {p for p in chapters | modules if (site/p).resolve() not in pages}


@release
def test_every_link_inside_the_site_leads_somewhere(pages):
    assert sum(len(p.links) for p in pages.values()) > 10_000
    assert {p.path.name: a for p in pages.values() if (a := astray(p, pages))} == {}


@release
def test_nothing_is_fetched_from_another_host(site, pages):
    assert [u for p in pages.values() for u in p.loaded if NETWORK.match(u)] == []
    assert [u for p in pages.values() for u in from_outside(p.styles)] == []
    assert [u for p in site.rglob('*.css') for u in from_outside(p.read_text('utf-8'))] == []


@release
def test_formulas_are_mathml_and_complete(pages):
    assert sum(p.formulas for p in pages.values()) > 300
    for page in pages.values():
        text = page.path.read_text(encoding='utf-8')
        for formula in re.findall(r'<math.*?</math>', text, re.S):
            assert '\\' not in formula and '"script"' not in formula, formula


@release
def test_pictures_say_what_they_show(pages):
    assert [(p.path.name, p.silent) for p in pages.values() if p.silent] == []


@release
def test_lines_for_nbdev_are_not_shown(site):
    for page in site.glob('[0-9]*/*.html'):
        plain = re.sub(r'<[^>]+>', '', page.read_text(encoding='utf-8'))
        assert not re.search(r'^#\| ?(export|default_exp|hide|slow|cuda)', plain, re.M), page


@release
def test_a_name_leads_to_its_source(site):
    page = (site/'api/losses/tks.html').read_text(encoding='utf-8')
    assert 'href="../../_modules/snn_repro/losses/tks.html#TKS"' in page
    assert 'id="TKS"' in (site/'_modules/snn_repro/losses/tks.html').read_text(encoding='utf-8')


def test_the_test_sees_what_is_wrong(tmp_path):
    page = tmp_path/'a.html'
    page.write_text('<a href="b.html">b</a><a href="#x">x</a><a id="y" href="#y">y</a>'
                    '<img src="c.png"><script src="//cdn.example.org/x.js"></script>'
                    '<p style="background: url(https://example.org/a.png)">')
    seen = Page(page)
    assert astray(seen, {page: seen}) == ['b.html', '#x'] and seen.silent == ['c.png']
    assert [u for u in seen.loaded if NETWORK.match(u)] == ['//cdn.example.org/x.js']
    assert from_outside(seen.styles) == ['https://example.org/a.png']
