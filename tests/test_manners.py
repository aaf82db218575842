"""How the command line speaks: examples that work, lines that fit, and quiet where it is asked
for."""
import fcntl, os, pty, re, shlex, shutil, struct, subprocess, sys, termios
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import NAME, TINY
from snn_repro.analysis.catalogue import find, named, plan
from snn_repro.analysis.claims import CLAIMS, verdicts
from snn_repro.analysis.exhibits import asked
from snn_repro.analysis.summary import known_words, same_records, words
from snn_repro.cli.examples import EXAMPLES
from snn_repro.cli.listing import ids_in
from snn_repro.cli.main import main
from snn_repro.cli.options import OPTIONS, parser
from snn_repro.cli.verbs import VERBS
from snn_repro.core.files import SEAL, read_json, write_json
from snn_repro.core.text import amount, is_quiet, no_bars, quiet
from snn_repro.experiments.tiers import find_tier
from snn_repro.records.queue import PLAN, write_plan
from snn_repro.records.runs import Runs, results
from snn_repro.training.launch import launch
from snn_repro.training.worker import work

EACH = [words for examples in EXAMPLES.values() for words, _ in examples]
# What is read or written in a moment; the others train, fetch, or need runs.
CHEAP = ['list', 'list tks-table3', 'list --tier small', f'show {NAME}',
         f'show {NAME} --tier paper --diff paper', f'run {NAME} --steps 3',
         'try --new my_loss.py', 'data list']


def test_every_verb_has_examples(): assert EXAMPLES.keys() == OPTIONS.keys()


@pytest.mark.parametrize('words', EACH)
def test_an_example_is_understood(words):
    a = parser(*VERBS).parse_args(shlex.split(words))
    assert a.verb == words.split()[0] and len(f'  snn-repro {words}') <= 80


@pytest.mark.parametrize('words', CHEAP)
def test_an_example_does_something(cli, words, tmp_path, monkeypatch):
    assert words in EACH
    monkeypatch.chdir(tmp_path)
    code, out, err = cli(*shlex.split(words))
    # three steps of TKS are without its own part, which is said
    assert code == 0 and out and len(err) == ('--steps' in words), err


@pytest.mark.parametrize('width', [80, 140])
@pytest.mark.parametrize('verb', ['', *OPTIONS])
def test_help_fits_and_cuts_no_word(capsys, monkeypatch, verb, width):
    monkeypatch.setenv('COLUMNS', str(width))
    with pytest.raises(SystemExit): parser(*VERBS).parse_args([*verb.split(), '--help'])
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= width
    if not verb:
        for v in OPTIONS: assert re.search(rf'^    {v} +\w', text, re.M), 'its help is beside it'
    for words, what in EXAMPLES.get(verb, ()):
        assert f'  snn-repro {words}\n      {what}\n' in text


# What has run, and its verdict

def lines_of(out, id): return [l.split() for l in out.splitlines() if l.startswith(f'{id} ')]


def test_list_counts_what_is_done_here_and_in_the_committed_records(cli, tmp_path):
    runs = plan(find(['tks-fig-categories']), find_tier('mini'))
    for e in runs[:3]:
        (tmp_path/e.id).mkdir()
        write_json(tmp_path/e.id/SEAL, {})
    (tmp_path/runs[4].id).mkdir()   # begun
    code, out, _ = cli('list', '--out', tmp_path)
    row, = lines_of(out, 'tks-fig-categories')
    assert code == 0 and row[1:7] == '3 of 16 16 of 16'.split() and str(tmp_path) in out
    assert lines_of(out, 'length')[0][1:3] == ['–', '–'], 'nothing of it is in tier mini'
    out = cli('list', 'tks-fig-categories', '--out', tmp_path)[1]
    rows = [lines_of(out, name)[0][1:] for name in named(find(['tks-fig-categories'])[0])]
    assert len(rows) == 2 and sum(int(r[0]) for r in rows) == 3
    assert all(r[1:] == 'of 8 8 of 8'.split() for r in rows)
    assert cli('list', 'tks-table1', '--tier', 'paper')[0] == 0


def test_list_says_the_verdict_of_each_claim(cli, monkeypatch):
    monkeypatch.setenv('COLUMNS', '140')
    said = verdicts(find_tier('small'), Runs(results('small')))['tier small']
    out = cli('list', '--tier', 'small')[1]
    for c in CLAIMS:
        line, = [l for l in out.splitlines() if f'{c.paper}: {c.says} ({c.exhibit})' in l]
        assert line.split('  ')[0].removesuffix(' †') == said[c.id].partition(' in ')[0]
    part = cli('list', 'tks-fig4', '--tier', 'small')[1]
    assert [c.id for c in CLAIMS if c.says in part] == [
        c.id for c in CLAIMS if c.exhibit == 'tks-fig4']
    assert 'claim' not in cli('list', '--tier', 'paper')[1], 'nobody has run these'


@pytest.mark.parametrize('tier', ['mini', 'small', 'long'])
def test_the_kept_words_are_those_of_the_committed_records(tier):
    tier = find_tier(tier)
    assert same_records(tier), 'assets/verdicts.json is old: `make exhibits`'
    plain = lambda said: {id: w.removesuffix(' †') for id, w in said.items()}
    assert plain(known_words(tier)) == plain(words(tier, Runs(results(tier.name))))


def test_other_records_than_those_of_the_words_are_noticed(cli, tmp_path, monkeypatch):
    shutil.copytree(results('mini'), tmp_path/'results/mini')
    monkeypatch.chdir(tmp_path)
    assert 'have changed' not in cli('list')[1]
    done = read_json('results/mini/done.json')
    write_json('results/mini/done.json', done | {'more': 1})
    assert 'These records have changed' in ' '.join(cli('list')[1].split())
    (tmp_path/'results/mini/records.jsonl.xz').write_bytes(b'cut')
    ids_in.cache_clear()
    code, _, err = cli('list')
    assert code == 1 and len(err) == 1 and 'records.jsonl.xz' in err[0]


def test_without_a_clone_the_records_are_not_here(cli, tmp_path, monkeypatch):
    monkeypatch.setattr('snn_repro.cli.listing.results', lambda name: tmp_path/name)
    out = ' '.join(cli('list')[1].split())
    assert 'not here' in out and '0 of 184 – ' in out and 'too little data †' in out


# Quiet

def test_quiet_ends_where_it_ends(monkeypatch):
    monkeypatch.delenv('SNN_REPRO_QUIET', raising=False)
    with quiet(False): assert not is_quiet() and no_bars() is None
    with quiet(True):
        with quiet(False): assert is_quiet() and no_bars() is True
        with quiet(True): pass
        assert is_quiet()
    assert not is_quiet()


def on_a_terminal(*args) -> str:
    "What `snn-repro *args` prints on a terminal, bars and all."
    here, there = pty.openpty()
    fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack('HHHH', 24, 80, 0, 0))
    process = subprocess.Popen([sys.executable, '-m', 'snn_repro', *map(str, args)], stdin=there,
                               stdout=there, stderr=there)
    os.close(there)
    said = b''
    try:
        while part := os.read(here, 4096): said += part
    except OSError: pass   # Linux's way to say that the other end is closed
    os.close(here)
    assert process.wait(60) == 0, said
    return said.decode()


@pytest.mark.slow
def test_a_quiet_run_says_what_came_out_and_no_more(tmp_path):
    loud, still = (on_a_terminal('run', NAME, *TINY, '--out', tmp_path/name, *more)
                   for name, more in (('loud', []), ('still', ['--quiet'])))
    assert 'step/s' in loud and 'step/s' not in still
    assert [l.split()[0] for l in still.splitlines()] == ['top1', 'aurc', 'Run:']
    assert still.splitlines()[:2] == [l.rpartition('\r')[2] for l in loud.splitlines()[-3:-1]]


def tiny(**more):
    _, e = asked(NAME, find_tier('mini'), changes=TINY[1::2])
    return replace(e, **more)


def test_quiet_workers_say_what_failed(capsys, tmp_path):
    odd = tiny(recipe=replace(tiny().recipe, batch=5000))
    write_plan([tiny(), odd], tmp_path/PLAN)
    with quiet(True): work(tmp_path)
    line, = capsys.readouterr().out.splitlines()
    assert line.startswith(f'failed  {odd.id}: ') and (tmp_path/tiny().id/'done.json').exists()


@pytest.mark.slow
def test_a_quiet_launch_says_nothing(capsys, tmp_path):
    with quiet(True): assert launch([tiny()], tmp_path, workers=1) == []
    said = capsys.readouterr()
    assert not said.out and not said.err and (tmp_path/tiny().id/'done.json').exists()


@pytest.mark.parametrize('verb', ['reproduce', 'work', 'run', 'try', 'sprint'])
def test_every_verb_that_trains_can_be_quiet(verb):
    needed = {'work': ['runs'], 'run': [NAME], 'try': ['a.py']}.get(verb, [])
    assert parser(*VERBS).parse_args([verb, *needed, '--quiet']).quiet


@pytest.mark.parametrize('n, said', [
    (0, '0 bytes'), (999, '999 bytes'), (20_540, '21 kB'), (999_700, '1.0 MB'),
    (170e6, '170 MB'), (1.15e9, '1.1 GB'), (144e9, '144 GB')])
def test_bytes_as_people_say_them(n, said): assert amount(n) == said


# The output, ctrl-C, and what lies beside the user

SNN_REPRO = str(Path(sys.executable).parent/'snn-repro')


def test_a_full_disk_is_one_line():
    with open('/dev/full', 'w') as full:
        done = subprocess.run([SNN_REPRO, 'list'], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1 and done.stderr.count('\n') == 1
    assert done.stderr.startswith('snn-repro: the output could not be written')


def test_nothing_slow_is_imported_before_ctrl_c_is_heard():
    code = ('import sys; import snn_repro.cli.main; '
            'print([m for m in sys.modules if m.split(".")[0] in ("numpy", "pandas", "torch")])')
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.stdout == '[]\n'


@pytest.mark.parametrize('words, kept', [(['list'], '\n'),
                                         (['run', NAME], ' Finished runs are kept')])
def test_ctrl_c_says_that_runs_are_kept_where_there_are_runs(words, kept, capsys, monkeypatch):
    def stop(*_): raise KeyboardInterrupt
    monkeypatch.setattr('snn_repro.cli.verbs.columns', stop)
    monkeypatch.setattr('snn_repro.cli.finished.finished', stop)
    assert main(words) == 130
    assert capsys.readouterr().err.startswith(f'\nsnn-repro: stopped.{kept}')


@pytest.mark.slow
def test_workers_are_not_led_astray_by_a_file_beside_the_user(tmp_path, monkeypatch):
    (tmp_path/'random.py').write_text('raise RuntimeError("not the one you want")\n')
    monkeypatch.chdir(tmp_path)
    assert launch([tiny()], tmp_path/'runs', workers=1) == []
    assert (tmp_path/'runs'/tiny().id/'done.json').exists()
