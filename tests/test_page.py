"""The report as a page: one file, light and dark, each link leads somewhere, and each number says
where it was measured. Tables in notebooks, and the picture of the claims."""
import re
from collections import Counter
from contextlib import redirect_stdout
from html import unescape
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from snn_repro.analysis import exhibits, forest, markup, report
from snn_repro.analysis.catalogue import find, in_tier
from snn_repro.analysis.claims import CLAIMS, FIRST, claim_lines, judge_claims
from snn_repro.analysis.page import asset, html_table, picture
from snn_repro.analysis.stats import VERDICTS, judge_at
from snn_repro.experiments.tiers import find_tier
from snn_repro.records.runs import Runs

root = Path(__file__).parents[1]
MINI = find_tier('mini')


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    "The path of the page of all committed runs of tier mini."
    with redirect_stdout(StringIO()):
        return report.write_report(find(), MINI, [root/'results/mini'],
                                   tmp_path_factory.mktemp('page'))


@pytest.fixture(scope='module')
def page(written): return written.read_text(encoding='utf-8')


@pytest.fixture(scope='module')
def said(): return judge_claims(MINI, Runs(root/'results/mini'))


class Tags(HTMLParser):
    "Tags with their attributes, and whether each one that must be closed is."
    def __init__(self, html: str):
        super().__init__()
        self.tags, self.open = [], Counter()
        self.feed(html)
    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.open[tag] += 1
    def handle_endtag(self, tag): self.open[tag] -= 1
    def of(self, *tags): return [a for t, a in self.tags if t in tags]


# One file

def test_the_page_is_one_small_file_that_asks_nothing_of_a_network(page):
    assert len(page.encode()) <= 1_500_000
    tags = Tags(page)
    assert not tags.of('link', 'iframe', 'object', 'embed', 'img', 'base')
    assert not [a for _, a in tags.tags if a.keys() & {'src', 'srcset', 'action', 'onclick'}]
    assert not re.search(r'https?:|@import|url\((?!#)|fetch\(|XMLHttp|\beval\b', page)
    assert len(tags.of('script')) == 1 and len(asset('report.js').splitlines()) <= 60
    for tag in ('section', 'table', 'tbody', 'tr', 'th', 'td', 'div', 'details', 'figure', 'svg'):
        assert tags.open[tag] == 0, tag


def test_ids_are_unique_and_every_link_within_the_page_leads_somewhere(page):
    tags = Tags(page).tags
    ids = Counter(a['id'] for _, a in tags if 'id' in a)
    assert not [i for i, n in ids.items() if n > 1]
    wanted = {a['href'][1:] for _, a in tags if a.get('href', '').startswith('#')}
    wanted |= set(re.findall(r'url\(#(.*?)\)', page))
    assert wanted <= ids.keys() and len(wanted) > 200
    pins = {a['href'][1:] for t, a in tags if a.get('class') == 'pin'}
    here = {x.id for x in in_tier(find(), find_tier('mini'))}
    assert pins >= here | {f'claim-{c.id}' for c in CLAIMS} | {'claims', 'runs'}
    left_out = {x.id for x in find()} - here
    assert left_out == {'length', 'length-enof', 'length-recipe', 'family-photographs'}
    assert not left_out & ids.keys() and all(i in page for i in left_out)
    assert len([i for i in pins if i.startswith('run-')]) > 50


def test_one_gets_from_a_claim_to_its_table_its_chapter_and_its_runs(page):
    line = re.search('<th [^>]*id="claim-tks-accuracy".*?</tr>', page, re.S)[0]
    assert 'href="#tks-table3"' in line
    table = re.search('<section id="tks-table3">.*?</section>', page, re.S)[0]
    assert 'href="#claim-tks-accuracy"' in table and 'chapter 8.6</a>' in table
    run, = set(re.findall('href="#(run-digits-smallresnet-t4-tks-f84453595c)"', table))
    runs = page[page.index('<section id="runs">'):]
    line = re.search(f'<th [^>]*id="{run}".*?</tr>', runs, re.S)[0]
    assert all(text in line for text in ('href="#tks-table3"', 'SmallResNet on Digits', 'AMD EPYC'))


def test_chapters_exist_and_speak_of_their_table(written, page):
    links = set(re.findall(r'href="([^"#]+\.ipynb)"', page))
    assert len(links) > 10
    for link in links: assert (written.parent/link).resolve().is_relative_to(root/'nbs')
    for x in exhibits.EXHIBITS:
        chapter = root/'nbs'/f'{x.chapter}.ipynb'
        assert chapter.exists(), x.id
        # of enof-depth the chapter of the claims shows what they say alone
        assert x.id in chapter.read_text() or x.id == 'enof-depth'


def test_where_there_is_no_clone_a_chapter_is_named_only(tmp_path, monkeypatch):
    from snn_repro.analysis import page as pages
    monkeypatch.setattr(pages, 'results', lambda: tmp_path/'results')
    assert pages.chapter_link('8_results/06_tks_table3', tmp_path) == 'chapter 8.6'


def test_when_on_what_and_with_which_commit_stands_first(page):
    head = page[page.index('<h1>'):page.index('<nav>')]
    assert re.search(r'AMD EPYC.*torch \d.*commit \w{12}.*20\d\d-\d\d-\d\d', head)


# For all readers

def colours(css: str) -> tuple[dict, dict]:
    "The named colours of the light theme, and of the dark one."
    blocks = [dict(re.findall(r'--(\w+): (#\w{6})', block))
              for block in re.findall(r':root \{(.*?)\}', css, re.S)]
    return blocks[0], blocks[0] | blocks[1]


def luminance(colour: str) -> float:
    c = np.array([int(colour[i:i + 2], 16)/255 for i in (1, 3, 5)])
    return float(np.where(c <= .04045, c/12.92, ((c + .055)/1.055)**2.4) @ [.2126, .7152, .0722])


def contrast(a: str, b: str) -> float:
    dark, light = sorted(map(luminance, (a, b)))
    return (light + .05)/(dark + .05)


@pytest.mark.parametrize('theme', [0, 1], ids=['light', 'dark'])
def test_every_text_stands_out_from_its_ground(theme):
    assert round(contrast('#ffffff', '#777777'), 2) == 4.48   # WCAG's own formula
    css = asset('report.css')
    named = colours(css)[theme]
    texts = set(re.findall(r'[;{ ]color: var\(--(\w+)\)', css))
    assert texts >= {'ink', 'soft', 'link', 'up', 'down', 'mixed'} and texts <= named.keys()
    for text in texts:
        for ground in ('ground', 'band'): assert contrast(named[text], named[ground]) >= 4.5, text
    assert luminance(named['ground']) > .9 if theme == 0 else luminance(named['ground']) < .02
    bare = re.sub(r':root \{.*?\}', '', css, flags=re.S)
    assert not re.findall(r'#[0-9a-fA-F]{3,6}\b', bare)   # a colour without a name has no theme


def test_no_picture_has_a_ground_of_its_own(page):
    themes = colours(asset('report.css'))
    for svg in re.findall('<svg .*?</svg>', page, re.S):
        assert 'role="img" aria-label="' in svg and 'currentColor' in svg
        assert set(re.findall('font-family: ([^;"]+)', svg)) <= {'system-ui, sans-serif'}
        for colour in set(re.findall('#[0-9a-f]{6}', svg)):
            for theme in themes: assert contrast(colour, theme['ground']) > 2, colour
    assert page.count('<svg ') >= 11


def test_every_header_says_what_it_heads(page):
    heads = Tags(page).of('th')
    assert {h['scope'] for h in heads} == {'col', 'row', 'rowgroup', 'colgroup'}
    assert all(len(t) for t in re.findall(r'<thead>(.*?)</thead>', page, re.S))


def test_on_a_phone_each_cell_has_its_columns_name(page):
    cells = Tags(re.sub('<thead>.*?</thead>', '', page, flags=re.S)).of('td')
    assert len(cells) > 1000 and all(c.get('data-label') for c in cells)
    phone = asset('report.css').partition('@media (max-width: 640px)')[2]
    assert 'attr(data-label)' in phone
    assert not {'td', 'tr', 'tbody', 'table'} & set(re.findall(r'([\w.]+) \{ display: none', phone))


@pytest.mark.parametrize('word, look', [
    ('partly reproduced in mini (1 reproduced, 2 too little data) †', 'partly-up'),
    ('reproduced in mini', 'up'), ('contradicted', 'down'), ('mixed in small †', 'mixed'),
    ('not reproduced in mini', 'level'), ('too little data in mini', 'open'), ('worse', 'down'),
    ('better than the baseline', ''), ('L_AF is better', ''), ('not tried in mini', '')])
def test_a_verdict_has_a_colour_and_a_sign(word, look):
    assert markup.look_of(word) == look
    html = html_table(markup.Table({'verdict': [word]}))
    assert (f'class="{look}"' in html) == bool(look) == ('aria-hidden' in html)
    if look: assert f'{markup.SIGNS[look]}</span> {word}' in html
    assert not look or f'.{look}' in asset('report.css')


def test_each_look_has_a_sign_of_its_own():
    assert len(set(markup.SIGNS.values())) == len(markup.SIGNS)
    drawn = [(m['marker'], m.get('markerfacecolor')) for m in forest.MARKERS.values()]
    assert len(set(drawn)) == len(drawn)
    assert {markup.look_of(v) for v in VERDICTS} == {*forest.MARKERS}


# Ours beside theirs

def ran_above(html: str) -> list[tuple]:
    "For each line of a table: what the header above it says ran here, and its text."
    found, now = [], ''
    for line in re.findall('<tr>.*?</tr>', html, re.S):
        text = unescape(re.sub('<.*?>', ' ', line))
        now = text.partition('here: ')[2].strip() if '>the paper<' in line else now
        if 'scope="row"' in line: found.append((now, text))
    return found


@pytest.mark.parametrize('id', ['tks-table1', 'tks-table2', 'tks-table3', 'tks-table4',
                                'enof-ablation', 'enof-table-cifar100', 'enof-table-cifar10dvs'])
def test_nothing_measured_here_stands_under_the_papers_data_alone(id):
    _, filled, drawn = report.redraw(id)
    lines = ran_above(drawn._repr_html_().partition('<details>')[0])
    assert len(lines) == len(filled)
    for (ran, text), (row, records), cell in zip(lines, filled, drawn['top-1 %, ours']):
        assert cell in text and all(v in text for v in row.labels.values())
        if records:
            c = records[0].config
            assert ran == f'{c["arch"]["type"]} on {c["data"]["type"]}'
        else: assert 'not run' in text


def test_every_cell_of_a_table_is_shown_once():
    drawn = report.redraw('tks-table3').drawn
    cells = re.findall('<td.*?>(.*?)</td>', drawn._repr_html_())
    shown = drawn.drop(columns='here')
    assert Counter(map(unescape, cells)) == Counter(shown.to_numpy().ravel().tolist())


def test_numbers_stand_right_and_texts_left():
    df = markup.Table({'n': ['8', '12'], 'effect': ['+1.20 [-0.10, +2.50]', '–'],
                       'time': ['×1.02', '×9'], 'says': ['2? is printed', 'more'],
                       'day': ['2026-11-26', '2026-11-27']})
    aligned = re.findall('<td style="text-align:(\\w+)[^>]*>(.*?)</td>', df._repr_html_())
    assert [side for side, _ in aligned[:5]] == ['right', 'right', 'right', 'left', 'left']
    assert len(aligned) == 10 and aligned[6] == ('right', '–')


def test_what_is_cut_out_of_a_table_is_shown_alike():
    df = markup.Table({'a': ['x', 'y'], 'b': ['1', '2']}).set_index('a')
    df.attrs['first'] = ['b']
    assert type(df[df['b'] == '1']) is type(df[['b']]) is markup.Table
    assert isinstance(df, pd.DataFrame) and '<details>' not in df._repr_html_()
    assert '<summary>c</summary>' in df.assign(c='long')._repr_html_()


def test_the_verdict_of_a_claim_stands_second(said):
    lines = claim_lines(said, MINI)
    heads = re.findall('<tr>(.*?)</tr>', lines._repr_html_())[0]
    shown = [unescape(h) for h in re.findall('<th.*?>(.*?)</th>', heads)]
    assert shown == ['claim', *FIRST] and shown[1] == 'verdict'
    assert list(lines.index.names) == ['claim', 'compared', 'rows']   # what folds away has them all
    assert lines[['power', 'firm']]._repr_html_().count('<th scope="col"') == 3 + 2


# The picture of the claims

def test_the_picture_has_every_comparison_in_units_of_its_gap(said):
    fig = forest.claims_forest(said, MINI)
    points = [l for ax in fig.axes for l in ax.lines if l.get_marker() not in ('', 'None', None)]
    drawn = [(np.ravel(l.get_xdata())[0], l.get_marker(), l.get_color()) for l in points]
    wanted = [(j.mean/c.gap, look['marker'], look['color']) for s in said for c, j in s.found
              for look in [forest.MARKERS[markup.look_of(j.verdict)]]]
    assert len(wanted) > 90 and len(drawn) == len(wanted)
    for (x, *look), (y, *other) in zip(drawn, wanted): assert np.isclose(x, y) and look == other
    texts = ' '.join(t.get_text().replace('\n', ' ') for ax in fig.axes for t in ax.texts)
    for s in said: assert f'{s.claim.paper}: {s.claim.says}' in texts and s.word(MINI) in texts


def test_on_a_phone_the_picture_says_the_same_in_less_width(said):
    broad, narrow = (forest.claims_forest(said, MINI, n) for n in (False, True))
    assert narrow.get_figwidth() < .6*broad.get_figwidth()
    texts = ' '.join(t.get_text().replace('\n', ' ') for ax in narrow.axes for t in ax.texts)
    for s in said: assert f'{s.claim.paper}: {s.claim.says}: {s.word(MINI)}' in texts
    assert min(t.get_fontsize() for ax in narrow.axes for t in ax.texts) >= 9


def test_a_single_seed_has_a_point_and_no_interval():
    one = forest.Group('a', 'too little data', [judge_at([1.5], 1., .05)], [1.])
    words = {v: v for v in VERDICTS}
    fig = forest.forest([one], words, 'title', 'caption', 'points')
    assert sum(len(l.get_xdata()) == 2 and l.get_linewidth() == 1.1 for l in fig.axes[0].lines) == 0
    svg = picture(fig, 'one', 'alt "text"')
    assert 'aria-label="alt &quot;text&quot;"' in svg and 'currentColor' in svg
