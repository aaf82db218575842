"""The report: folders side by side, claims on the page, at a glance, and a mark for the best only
where the noise lets one say so."""
import re, shutil
from contextlib import redirect_stdout
from html import escape, unescape
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest

from conftest import NAME
from snn_repro.analysis import exhibits, page as pages, report
from snn_repro.analysis.catalogue import fill, find, plan
from snn_repro.analysis.claims import CLAIMS, verdicts
from snn_repro.analysis.markup import SIGNS, look_of
from snn_repro.analysis.stats import BORDERLINE
from snn_repro.analysis.tables import LEGEND, MARK, Measure, Row, leaders, has_mark, table, to_text
from snn_repro.experiments.tiers import TIERS, find_tier
from snn_repro.records.runs import Runs, pack_records
from test_startup import TORCH, imported

committed, MINI = Path(__file__).parents[1]/'results/mini', find_tier('mini')
ASKED = find(['tks-fig3a', 'tks-table4'])


@pytest.fixture(scope='module')
def few(tmp_path_factory):
    "Three seeds of the committed runs of figure 3a and table 4, packed."
    runs = Runs(committed)
    return pack_records([r for e in plan(ASKED, MINI) if e.seed < 3 and (r := runs.get(e))],
                        tmp_path_factory.mktemp('few')/'packed')


@pytest.fixture(scope='module')
def both(few, tmp_path_factory):
    "What is printed, and the page, of a figure and a table from two folders."
    with redirect_stdout(StringIO()) as said:
        path = report.write_report(ASKED, MINI, [committed, few], tmp_path_factory.mktemp('page'),
                                   120, tables=True)
    return said.getvalue(), path.read_text(encoding='utf-8')


def part(page: str, id: str) -> str:
    return re.search(f'<section id="{id}">.*?</section>', page, re.S)[0]


def signs(cells) -> list[str]: return [SIGNS.get(look_of(re.sub('^. ', '', c)), '') for c in cells]


def drawn(id: str, folder): return (x := find([id])[0]).draw(fill(x, MINI, Runs(folder)), 'mini')


def test_tables_of_two_folders_stand_side_by_side(both, few):
    said, page = both
    alone = {str(f): drawn('tks-table4', f) for f in (committed, few)}
    joined = pages.side_by_side(alone)
    assert (to_text(joined, 120) in said and
            [unescape(h) for h in re.findall('<th scope="colgroup".*?class="stay">(.*?)</span>',
                                             part(page, 'tks-table4'))] == [*alone, 'runs'])
    for name, df in alone.items():
        assert (joined[name].equals(df[joined[name].columns]) and
                {'top-1 %, ours', 'seeds'} <= {*joined[name]})
    assert 'top-1 %, paper' in joined[str(committed)] and 'top-1 %, paper' not in joined[str(few)]
    assert (not joined[str(committed)]['top-1 %, ours']
            .equals(joined[str(few)]['top-1 %, ours']) and {*joined[str(few)]['seeds']} == {'3'})


def test_a_row_that_one_folder_lacks_has_the_run_of_the_other():
    frame = lambda run: table([(Row({'method': 'A'}, {}), made_up('a', [1.]) if run else [])],
                              {'m': MEASURE})
    assert pages.side_by_side({'one': frame(False),
                                'two': frame(True)})['runs', 'run'].tolist() == ['a']
    assert pages.side_by_side({'one': (alone := frame(True))}) is alone


def test_figures_follow_each_other_under_the_names_of_their_folders(both, few):
    section = part(both[1], 'tks-fig3a')
    assert (re.findall('<h3>(.*?)</h3>', section) == [str(committed), str(few)] and
            len({*re.findall('<svg .*?</svg>', section, re.S)}) == 2)
    assert (f'8 seeds of {committed}, 3 seeds of {few}' in section and
            section.count('<details>') == 2)


def test_one_folder_has_neither_blocks_nor_names(few, tmp_path, capsys):
    page = report.write_report(ASKED, MINI, [few], tmp_path, 120, tables=True).read_text(
        encoding='utf-8')
    assert '<h3>' not in page and f'>{few}<' in page and page.count(str(few)) == 1
    assert (to_text(drawn('tks-table4', few), 120) in capsys.readouterr().out and
            '· 3 seeds ·' in page)


def test_a_loose_folder_and_its_pack_print_the_same(cli, tmp_path):
    assert cli('run', NAME, '--out', tmp_path/'loose')[0] == 0
    pack_records(Runs(tmp_path/'loose'), tmp_path/'packed')
    loose, packed = (cli('report', '--runs', tmp_path/f, '--only', NAME, '--out', tmp_path/'page',
                         '--tables') for f in ('loose', 'packed'))
    assert (loose[:2] == packed[:2] and loose[0] == 0 and
            re.search(r'digits-smallresnet-t4-tks-\w{10}', loose[1]))


# Claims

def test_every_claim_of_the_exhibits_is_on_the_page_with_its_verdict(both, few):
    said, page = both
    section, claims = (part(page, 'claims'),
                       [c for c in CLAIMS if c.exhibit in ('tks-fig3a', 'tks-table4')])
    first, second = (verdicts(MINI, Runs(f), claims)['tier mini'] for f in (committed, few))
    for c in claims:
        line = re.search(f'<th [^>]*id="claim-{c.id}".*?</tr>', section, re.S)[0]
        cells = [re.sub('<.*?>', '', cell) for cell in re.findall('<td.*?>(.*?)</td>', line)]
        assert [c.removeprefix(f'{sign} ') for c, sign in zip(cells, signs(cells))] == [
            escape(v) for v in (first[c.id], second[c.id], c.paper, c.says, c.where, c.exhibit)]
        assert f'{c.id}  ' in said
    assert page.index('id="claims"') < page.index('id="tks-fig3a"') and 'href="#claims"' in page
    assert section.count('<details>') == 2 and section.count('>bootstrap<') == 1
    assert 'enof-laf' not in page


def test_an_exhibit_without_a_claim_has_no_section_of_claims(tmp_path, capsys):
    page = report.write_report(find(['enof-table-imagenet']), MINI,
                               [committed], tmp_path).read_text(encoding='utf-8')
    assert 'id="claims"' not in page and 'claims' not in capsys.readouterr().out


def test_no_line_is_wider_than_the_terminal(few, tmp_path, capsys):
    report.write_report(ASKED[1:], MINI, [few, committed], tmp_path, 60, tables=True)
    assert max(len(l) for l in capsys.readouterr().out.splitlines()
               if l not in (str(few), str(committed)) and not l.startswith('Report: ')) <= 60


# At a glance

def test_at_a_glance_sums_up_what_was_run():
    runs = Runs(committed)
    one = report.at_a_glance(exhibits.EXHIBITS, [(TIERS['mini'], runs)])
    here = one['here (mini)']
    records = [r for e in plan(find(), MINI) if (r := runs.get(e))]
    assert (here['runs'].split(',')[0] == f'{len(records)} of {len(plan(find(), MINI))} planned' and
            report.duration(sum(r.env['seconds'] for r in records)) in here['computing time'])
    with_runs = [x for x in find() if plan([x], MINI)]
    tables = sum(x.draw.kind == 'table' for x in with_runs)
    assert (here['scope'] ==
            f'{tables} tables, {len(with_runs) - tables} figures, {len(CLAIMS)} claims')
    assert tables == 10 and len(with_runs) - tables == 9
    told = ' '.join(here[f'claims, {p}'] for p in ('EnOF', 'TKS', 'ours'))
    assert sum(map(int, re.findall(r'\d+', told))) == len(CLAIMS)
    said = verdicts(MINI, runs)['tier mini']
    for word in ('reproduced', 'contradicted', 'not tried'):
        assert (sum(int(n) for n in re.findall(rf'(\d+) {word}', told)) ==
                (said.str.removesuffix(BORDERLINE) == f'{word} in mini').sum())


def test_at_a_glance_takes_several_tiers(few):
    two = report.at_a_glance(exhibits.EXHIBITS,
                             [(TIERS['mini'], Runs(few)), (TIERS['small'], Runs(few))])
    assert (list(two) == ['here (mini)', 'here (small)', "the papers' full runs"] and
            two.loc['runs', 'here (small)'].startswith('0 of '))
    assert (two.loc['claims, TKS', 'here (small)'] ==
            f'{sum(c.paper == "TKS" for c in CLAIMS)} not tried')


def test_the_papers_side_has_the_epochs_and_steps_of_the_papers_own_runs():
    there = report.at_a_glance(exhibits.EXHIBITS, [])["the papers' full runs"]
    full = exhibits.plan(exhibits.EXHIBITS, TIERS['paper'])
    for line, values in (('epochs a run', {e.recipe.epochs for e in full}),
                         ('steps T of a net', {e.T for e in full})):
        assert there[line] == ', '.join(map(str, sorted(values)))
    told = set(map(int, re.findall(r'\b\d+\b', there['epochs come from'])))
    assert told == {e.recipe.epochs for e in full}
    assert there['runs'].startswith(f'{len(full)},') and 'not known' in there['computing time']


def test_verdicts_are_counted_by_their_words():
    import pandas as pd
    said = ['reproduced in mini', 'not reproduced in mini',
            'partly reproduced in mini (1 reproduced, 2 too little data)', 'not tried in mini',
            'reproduced in mini', 'contradicted']
    assert report.outcome(pd.DataFrame({'paper': ['A']*5 + ['B'], 'tier mini': said})) == {
        'claims, A': '2 reproduced, 1 partly reproduced, 1 not reproduced, 1 not tried',
        'claims, B': '1 contradicted'}


# The best beyond the noise

MEASURE = Measure('points', lambda r: r.value, 1)
STEADY, UNSTEADY = [1., 1.1, .9, 1.2, .8], [5., -3.9, 4.1, -3., 2.9]


def made_up(name: str, values):
    ran = {'arch': {'type': 'NoNet'}, 'data': {'type': 'MadeUp'}}
    return [SimpleNamespace(setting=name, config=ran | {'seed': s}, value=v)
            for s, v in enumerate(values)]


def filled(**values):
    "One row a method: name -> (its runs' name, values), or values alone."
    rows = {k: v if isinstance(v, tuple) else (k, v) for k, v in values.items()}
    return [(Row({'set': k.split('_')[0], 'method': k}, {}), made_up(name, v))
            for k, (name, v) in rows.items()]


def first(values, more=True, within=()):
    return leaders(filled(**values), MEASURE._replace(more=more), within)[0]


LOW = [0., .1, -.1, .05, 0.]


@pytest.mark.parametrize('values, is_best', [
    (dict(a=STEADY, b=LOW), True),
    (dict(a=LOW, b=STEADY), False),
    (dict(a=UNSTEADY, b=LOW), False),
    (dict(a=STEADY, b=LOW, c=LOW[::-1]), True),
    (dict(a=STEADY, b=LOW, c=[v + .01 for v in STEADY[::-1]]), False),
    (dict(a=STEADY, b=LOW, c=('a', STEADY)), False),
    (dict(a=STEADY, b=LOW, c=('b', LOW)), True),
    (dict(a=STEADY, b=LOW, c=[]), True),
    (dict(a=STEADY, b=[]), False),
    (dict(a=[], b=LOW), False),
    (dict(a=[1., 1.2], b=[0., .5]), False),
], ids=['clear', 'worse', 'noise', 'clear of two', 'one is as good', 'a twin', 'twins below',
        'one not run', 'nothing beside it', 'not run', 'two seeds'])
def test_the_best_is_marked_only_beyond_the_noise(values, is_best): assert first(values) == is_best


def test_many_rivals_make_the_intervals_wider():
    edge = {'a': [1.3, 0., 1.2, .3, .9]}
    one, other = {'b': [0.]*5}, {'c': [.02, 0, 0, 0, -.01]}
    assert first(edge | one) and first(edge | other) and not first(edge | one | other)


def test_less_is_better_where_the_measure_says_so():
    assert first(dict(a=LOW, b=STEADY), more=False) and not first(dict(a=STEADY, b=LOW), more=False)


def test_each_group_has_its_own_best():
    values = dict(x_a=STEADY, x_b=LOW, y_a=[9 + v for v in LOW], y_b=[9 + v for v in STEADY])
    assert (leaders(filled(**values), MEASURE, ('set',)) == [True, False, False, True] and
            leaders(filled(**values), MEASURE) == [False]*3 + [True])


def test_the_mark_is_explained_wherever_it_stands():
    df = table(filled(a=STEADY, b=LOW), {'m': MEASURE})
    plain = table(filled(a=UNSTEADY, b=LOW), {'m': MEASURE})
    assert df['points, ours'].tolist()[0].endswith(MARK) and has_mark(df) and not has_mark(plain)
    assert to_text(df, 120).splitlines()[-1] == LEGEND and LEGEND not in to_text(plain, 120)
    assert (f'<b>{df["points, ours"].iloc[0]}</b></td>' in (html := pages.html_table(df)) and
            LEGEND in html and 'best' in df._repr_html_())
    assert '<b>' not in pages.html_table(plain) and LEGEND not in pages.html_table(plain)


# Folders

def test_without_a_name_ones_own_runs_are_read_or_else_the_committed_ones(few, tmp_path,
                                                                          monkeypatch, cli):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(few, 'results/mini')
    assert report.folders_of(None, MINI) == [Path('results/mini')]
    code, _, _ = cli('report', '--only', 'tks-fig3a')
    assert code == 0 and '<code>results/mini</code>' in Path('reports/mini/index.html').read_text(
        encoding='utf-8')
    shutil.copytree(few, 'runs/mini')
    assert report.folders_of(None, MINI) == [Path('runs/mini')]


def test_a_folder_of_another_tier_is_named(few, tmp_path, capsys):
    report.write_report(find(['tks-fig3a']), find_tier('small'), [few], tmp_path)
    assert f'{few} holds none of the runs' in capsys.readouterr().out


@pytest.mark.parametrize('names, said', [
    (['nowhere'], 'there is no such folder of runs'),
    (['few', 'nowhere'], 'there is no such folder of runs'),
    (['few', 'empty'], 'there is no run in this folder'),
    (['file'], 'there is no such folder of runs'),
    (['few', 'few/../few'], 'a folder is named twice'),
    (['unsealed'], 'this packed folder has no done.json'),
    ([], 'there is no such folder of runs'),
])
def test_a_folder_that_is_none_is_refused_in_one_line(names, said, few, tmp_path,
                                                      monkeypatch, refused):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(few, 'few')
    shutil.copytree(few, 'unsealed', ignore=shutil.ignore_patterns('done.json'))
    Path('empty').mkdir()
    Path('file').touch()
    assert said in refused('report', '--only', 'tks-fig3a', '--out', 'page',
                           *(['--runs', *names] if names else []))


def test_two_folders_are_read_without_torch(few, tmp_path):
    assert not imported('report', '--runs', committed, few, '--only', 'tks-table4',
                        '--out', tmp_path) & TORCH


@pytest.mark.parametrize('seeds, said', [
    ([], ''), ([3], '3'), (range(8), '0 to 7'), ([201, 0, 1, 200, 0, 7], '0 to 1, 7, 200 to 201')])
def test_seeds_are_named_in_spans(seeds, said): assert report.spans(seeds) == said
