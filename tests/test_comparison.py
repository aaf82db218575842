"""Two sets of runs: the same effects, other effects, an alarm for a broken build.
Said in a screen of lines and first on the page."""
import json, os, re, subprocess, sys
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from snn_repro.analysis import comparison, report
from snn_repro.analysis.catalogue import fill, find, plan
from snn_repro.analysis.comparison import compare_sets, terminal_lines
from snn_repro.analysis.early_losses import TOLERANCE, alarms, early
from snn_repro.analysis.replication import AGREES, CANNOT_TELL, DIFFERS, replication
from snn_repro.core.spec import UserError
from snn_repro.experiments.tiers import find_tier
from snn_repro.records.ledger import LEDGER, read_ledger, run_of
from snn_repro.records.runs import Runs, pack_records, results
from test_startup import TORCH, imported

committed, MINI = Path(__file__).parents[1]/'results/mini', find_tier('mini')
ASKED = find(['tks-fig3a', 'tks-table3-dvs-cifar10'])


@pytest.fixture(scope='module')
def runs(): return Runs(committed)


@pytest.fixture(scope='module')
def faulty(runs, tmp_path_factory):
    """A packed folder of the first five seeds.
    In it the runs of TKS on events are those of its text."""
    by = {row.labels['method']: records for row, records in fill(ASKED[0], MINI, runs)}
    instead = {r.id: replace(other, id=r.id, config=r.config)
               for r, other in zip(by['TKS'], by['TKS (text)'])}
    found = [instead.get(e.id) or r for e in plan(ASKED, MINI) if e.seed < 5 and (r := runs.get(e))]
    return pack_records(found, tmp_path_factory.mktemp('faulty')/'packed')


@pytest.fixture(scope='module')
def page(faulty, tmp_path_factory):
    "What is printed, and the page, where the faulty runs stand beside the committed ones."
    out = tmp_path_factory.mktemp('page')
    with redirect_stdout(StringIO()) as said:
        path = report.write_report(ASKED, MINI, [faulty, committed], out, 80)
    return said.getvalue(), path.read_text(encoding='utf-8')


# The words

def test_what_both_have_is_compared_and_no_more(faulty, runs):
    found = replication(ASKED, MINI, Runs(faulty), runs)
    assert {x.seed for x, _ in found.pairs} == set(range(5))
    assert all(x.id == y.id for x, y in found.pairs)
    assert len(found.pairs) == sum(e.seed < 5 for e in plan(ASKED, MINI)) < found.planned
    assert found.planned == len(plan(ASKED, MINI))
    assert found.identical == len(found.pairs) - 5 and found.seeds == 5
    assert {w.effect.claim.exhibit for w in found.weighed} == {x.id for x in ASKED}


def test_effects_of_the_runs_that_were_exchanged_differ_and_the_others_agree(faulty, runs):
    found = replication(ASKED, MINI, Runs(faulty), runs)
    for w in found.weighed:
        touched = 'TKS' in w.effect.what.replace('TKS (text)', '')
        assert touched or w.word == AGREES and w.mean == 0
    assert found.of(DIFFERS) and found.p == 2/32


def test_two_sets_without_a_common_run_say_so(runs):
    nothing = SimpleNamespace(get=lambda e: None)
    c = compare_sets(ASKED, MINI, ('mine', nothing), ('ours', runs))
    assert terminal_lines(c) == ['No run is in both.'] and not c.alarms
    assert 'No run is in both.' in comparison.page_section(c, pd.DataFrame.to_html)


def test_a_single_seed_tells_nothing(runs):
    one = SimpleNamespace(get=lambda e: runs.get(e) if e.seed == 0 else None)
    found = replication(ASKED, MINI, one, runs)
    assert {w.word for w in found.weighed} <= {CANNOT_TELL}
    assert not found.claims and not alarms(early(found.pairs))


# In the terminal and on the page

def test_a_screen_says_what_ran_what_differs_and_where_the_page_is(page, faulty):
    said, _ = page
    lines = said.strip().splitlines()
    assert len(lines) <= 40 and max(len(l) for l in lines[:-1]) <= 80
    assert lines[-1].startswith('Report: ')
    assert 'ALARM, this looks like another build: TKS, ' in said and 'differs <' in said
    assert 'whole seeds flipped: p = ' in said and 'top-1 %, ours' not in said
    assert 'points of top-1 cannot be seen at 5 seeds' in ' '.join(said.split())


def test_the_comparison_is_told_first_on_the_page_and_what_differs_is_marked(page):
    text = page[1]
    assert 0 < text.index('id="claims"') < text.index('id="compared-1"') < text.index('id="glance"')
    assert text.index('<p class="alarm">ALARM') < text.index('id="claims"')
    section = re.search('<section id="compared-1">.*?</section>', text, re.S)[0]
    assert '<b>ALARM' in section and '<b>differs &lt; tks-' in section
    assert '<b><span aria-hidden="true">▼</span> differs &lt;</b></td>' in section
    day = next(iter(Runs(committed))).env['date']
    assert 'AMD EPYC with AVX2' in section and day in text and 'made on' in text


def test_tables_are_printed_when_asked_for(runs, tmp_path, capsys):
    for tables in (False, True):
        report.write_report(find(['tks-table4']), MINI, [committed], tmp_path, tables=tables)
        assert ('top-1 %, ours' in capsys.readouterr().out) is tables


def test_of_many_lines_a_terminal_shows_a_few(page):
    assert comparison.first(['x']*6) == ['x']*6
    assert comparison.first(['x']*9) == ['x']*5 + ['… and 4 more: see the page']


def test_without_our_runs_one_line_says_so(faulty, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(report, 'ours', lambda tier: None)
    path = report.write_report(ASKED[:1], MINI, [faulty], tmp_path, against_ours=True)
    text = path.read_text(encoding='utf-8')
    said = capsys.readouterr().out
    assert said.count('Not compared with our runs') == 1
    assert 'Not compared with our runs' in text and 'id="compared' not in text


def test_ours_are_those_of_the_folder_or_of_the_clone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert report.ours(MINI).resolve() == committed.resolve()
    (tmp_path/'results/mini').mkdir(parents=True)
    (tmp_path/'results/mini/records.jsonl.xz').touch()
    assert report.ours(MINI) == Path('results/mini')
    assert report.ours(find_tier('paper')) is None


def test_the_committed_runs_are_not_compared_with_themselves(tmp_path, capsys):
    report.write_report(ASKED[:1], MINI, [committed], tmp_path, against_ours=True)
    assert 'compared with' not in capsys.readouterr().out


def test_a_comparison_needs_no_torch(faulty, tmp_path):
    used = imported('report', '--runs', faulty, committed, '--only', 'tks-fig3a', '--out', tmp_path)
    assert not used & TORCH


# Where runs were made

def a_record(**env):
    full = {'versions': {'snn-repro': '1', 'torch': '2', 'python': '3'},
            'hardware': {'cpu': 'A', 'cores': 2}, 'device': 'cpu', 'seconds': 1.}
    return SimpleNamespace(id='x-s0-k', env=full | env)


def test_processor_commit_and_day_of_a_record():
    assert comparison.processor(a_record()) == 'A, 2 cores, cpu'
    more = {'cpu': 'A', 'instructions': 'DEFAULT', 'onednn': 'SSE41', 'cores': 1, 'gpu': 'G'}
    assert comparison.processor(a_record(hardware=more)) == (
        'A with DEFAULT, oneDNN up to SSE41, 1 cores, G, cpu')
    for env, said in (({}, 'not known'), ({'commit': 'abc'}, 'abc'),
                      ({'commit': 'abc', 'dirty': True}, 'abc, changed')):
        assert comparison.commit(a_record(**env)) == said
    assert comparison.days_text(['', '2026-01-02', '2026-01-01']) == '2026-01-01 to 2026-01-02'
    assert 'not recorded' in comparison.days_text([''])
    assert comparison.distinct(['a', 'b', 'b', 'c', 'd']) == 'b, a, c and 1 more'


def test_days_come_from_the_record_or_the_ledger(runs):
    records = [runs.find(i) for i in list(runs.opened)[:3]]
    silent = [replace(r, env={k: v for k, v in r.env.items() if k != 'date'}) for r in records]
    entered = {l.run: l.date for l in read_ledger(committed.parent/LEDGER)}
    assert comparison.dates(runs, silent) == [entered[run_of(r)] for r in records]
    later = [replace(r, env=r.env | {'date': '2027-01-01'}) for r in records]
    assert comparison.dates(runs, later) == ['2027-01-01']*3


def test_other_versions_and_other_data_are_named():
    here = a_record(data='1')
    there = a_record(versions={'snn-repro': '1', 'torch': '2.1', 'python': '3'}, data='2')
    assert comparison.other_versions([here], [there]) == [
        'Other versions: torch 2 here, 2.1 there.', '1 run saw other data than there.']
    assert comparison.other_versions([here], [here]) == []


# The alarm

FAULTS = Path(__file__).with_name('faults.py')


@pytest.fixture(scope='module')
def seen():
    """What chapter 7.12 looks at, of honest nets and of seven faulty ones.
    Here, and of the honest ones under another instruction set."""
    plain = {'ATEN_CPU_CAPABILITY': 'default', 'ONEDNN_MAX_CPU_ISA': 'SSE41'}
    def run(*args, **env):
        return subprocess.Popen([sys.executable, FAULTS, *args], env=os.environ | env,
                                stdout=subprocess.PIPE, text=True)
    started = [run('faults'), run(**plain)]
    here, elsewhere = (json.loads(p.communicate(timeout=900)[0]) for p in started)
    assert all(p.returncode == 0 for p in started)
    return here, elsewhere


def records(told: dict, fault: str) -> list:
    def one(setting, seed, d):
        history = pd.DataFrame(d['history']).assign(lr=.1, test=float('nan'))
        return SimpleNamespace(id=setting.replace('-t', f'-s{seed}-t', 1), setting=setting,
                               config={'init': 'fresh'}, metrics={'probe': d['probe']},
                               history=history)
    return [one(setting, seed, d) for setting, seeds in told[fault].items()
            for seed, d in seeds.items()]


@pytest.mark.slow
def test_an_honest_build_on_other_instructions_gives_no_alarm(seen):
    here, elsewhere = seen
    found = early(list(zip(records(here, ''), records(elsewhere, ''), strict=True)))
    assert alarms(found) == [] and len(found) > 15 and set(found['moment']) == set(TOLERANCE)
    # a processor may know but one instruction set
    assert found['apart'].max() > 0 or here[''] == elsewhere['']


@pytest.mark.parametrize('fault, method', [
    ('factor 1', 'TKS, '), ('no L_AF', 'L_AF'), ('no LS', 'LS, '), ('TET as CE', 'TET'),
    ('random steps', 'TKS, '), ('all steps', 'TKS, '), ('text', 'TKS, ')])
def test_a_planted_fault_raises_the_alarm_and_names_the_method(seen, fault, method):
    wrong, honest = records(seen[0], fault), records(seen[1], '')
    pairs = [(x, y) for x in wrong for y in honest if x.id == y.id]
    assert len(pairs) == 3
    line, = alarms(early(pairs))
    assert line.startswith(method) and 'median of 3 seeds' in line


def test_the_committed_second_set_gives_no_alarm_though_some_nets_began_trained():
    mini, again = (Runs(results(n)) for n in ('mini', 'mini-default'))
    there = {r.id: r for r in again}
    pairs = [(r, there[r.id]) for r in mini if r.id in there]
    assert {x.config['init'] for x, _ in pairs} == {'fresh', 'ann', 'trained'}
    found = early(pairs)
    assert alarms(found) == [] and len(set(found['setting'])) > 60


def test_too_few_seeds_raise_no_alarm(seen):
    wrong, honest = records(seen[0], 'factor 1')[:2], records(seen[1], '')
    assert alarms(early([(x, y) for x in wrong for y in honest if x.id == y.id])) == []


@pytest.mark.parametrize('probe', [[1.], {'ce': '1'}, {'ce': None}, 7])
def test_a_mangled_probe_is_refused(probe):
    history = pd.DataFrame({'epoch': [0], 'ce': [1.]})
    r = SimpleNamespace(id='r', setting='r', config={}, metrics={'probe': probe}, history=history)
    with pytest.raises(UserError, match='a probe has numbers'): early([(r, r)])
