"The command line: one verb, one call. What it cannot do it says in one line."
import argparse, shutil, sys
from pathlib import Path

from snn_repro.spec import UserError, check, diff


class Parser(argparse.ArgumentParser):
    def error(self, message): raise UserError(message, remedy=f'see `{self.prog} --help`')


def parser() -> Parser:
    p = Parser(prog='snn-repro', description='TKS and EnOF-SNN rebuilt: every table and figure from run records.')
    verbs = p.add_subparsers(dest='verb', required=True, metavar='VERB')

    def verb(do, *options):
        v = verbs.add_parser(do.__name__.removesuffix('_'), help=do.__doc__, description=do.__doc__)
        for o in options: o(v)
        v.set_defaults(do=do)

    tier = lambda v: v.add_argument('--tier', default='mini', help='mini (default) or paper')
    only = lambda v: v.add_argument('--only', nargs='+', metavar='ID', help='these tables and figures (see `list`)')
    name = lambda v: v.add_argument('experiment', metavar='EXPERIMENT', help='a name that `list ID` prints, or a config.json')
    out = lambda v: v.add_argument('--out', type=Path, metavar='DIR', help='folder of the runs (default: runs/TIER)')
    root = lambda v: v.add_argument('--root', type=Path, default=Path('data'), metavar='DIR', help='folder of the data sets (default: data)')

    edits = lambda v: v.add_argument('--set', action='append', default=[], metavar='KEY=VALUE', help='change a value, e.g. recipe.epochs=5 or objective.0.peak=0.5')

    def changes(v):
        v.add_argument('--seed', type=int, help='default 0')
        v.add_argument('--variant', metavar='NAME', help='paper: as the text has it where the official code differs')
        edits(v)

    device = lambda v: v.add_argument('--device', default='cpu', help='cpu (default), cuda, …')

    def machine(v):
        v.add_argument('--threads', type=int, default=1, metavar='N', help='threads of torch (default 1: the same bytes whatever the cores)')
        v.add_argument('--checkpoint', type=float, default=300, metavar='S', help='seconds from one checkpoint to the next (default 300)')
        v.add_argument('--steps', type=int, metavar='N', help='only try the first N steps, and write nothing')

    verb(reproduce, tier, only, out, root, device, lambda v: v.add_argument('--workers', type=int, metavar='N', help='runs at a time (default: one a core; one on a GPU)'),
         lambda v: v.add_argument('--pack', type=Path, metavar='DIR', help='also write the finished runs as one packed folder'))
    verb(list_, lambda v: v.add_argument('id', nargs='?', metavar='ID', help='a table or figure: print its experiments'))
    verb(show, name, tier, changes, lambda v: v.add_argument('--diff', metavar='NAME', help='only what this variant changes: paper'))
    verb(run, name, tier, changes, out, root, device, machine)
    verb(data, lambda v: v.add_argument('action', choices=['list', 'check', 'prepare']), lambda v: v.add_argument('name', nargs='?', metavar='NAME'), root, edits,
         lambda v: v.add_argument('--frames', type=int, default=10, metavar='T', help='prepare: frames a recording (default 10)'))
    verb(report, tier, only, lambda v: v.add_argument('--runs', type=Path, metavar='DIR', help='folder of the runs (default: runs/TIER)'),
         lambda v: v.add_argument('--out', type=Path, metavar='DIR', help='folder of the page (default: reports/TIER)'))
    return p


def reproduce(a):
    "train what is missing, then print every table and write the report"
    from snn_repro.exhibits import find, pack_runs, plan
    from snn_repro.experiments import find_tier
    from snn_repro.launch import launch
    check(a.workers is None or a.workers >= 1, f'--workers is {a.workers}', remedy='choose 1 or more')
    exhibits, tier, out = find(a.only), find_tier(a.tier), a.out or Path('runs')/a.tier
    failures = launch(plan(exhibits, tier), out, a.workers or (None if a.device == 'cpu' else 1), a.root, a.device)
    if a.pack: pack_runs(exhibits, tier, out, a.pack)
    page(exhibits, tier, out, out/'report' if a.out else Path('reports')/a.tier)
    for f in failures: print(f'failed: {f.id}: {f.reason}', file=sys.stderr)
    check(not failures, f'{len(failures)} of the runs failed', remedy='what finished is kept: mend the cause and start the same command again')


def page(exhibits, tier, runs: Path, folder: Path):
    from snn_repro.report import write_report
    path = write_report(exhibits, tier, runs, folder, width=shutil.get_terminal_size((100, 24)).columns)
    print(f'\nReport: {path}')


def report(a):
    "print every table and write the report from finished runs"
    from snn_repro.exhibits import find
    from snn_repro.experiments import find_tier
    tier, runs = find_tier(a.tier), a.runs or Path('runs')/a.tier
    check(runs.is_dir(), 'there is no such folder of runs', str(runs), 'make it: `snn-repro reproduce`, or name one with --runs')
    page(find(a.only), tier, runs, a.out or Path('reports')/a.tier)


def list_(a):
    "the tables and figures with their ids, or the experiments of one"
    from snn_repro.exhibits import EXHIBITS, find, names
    if a.id: print('\n'.join(names(*find([a.id])) or ['no experiments of its own']))
    else:
        width = max(len(e.id) for e in EXHIBITS)
        for e in EXHIBITS: print(f'{e.id:{width}}  {e.title}')


def data(a):
    "data sets: list them; check NAME, whether yours is whole; prepare NAME, fetch and unpack it, and make frames of recordings"
    from snn_repro.shelf import check_set, prepare_set, shelf_table
    from snn_repro.tables import to_text
    if a.action == 'list': return print(to_text(shelf_table(a.root), shutil.get_terminal_size((100, 24)).columns))
    check(a.name, f'data {a.action}: which one?', remedy=f'snn-repro data {a.action} NAME; `snn-repro data list` names them')
    print('\n'.join(check_set(a.name, a.root) if a.action == 'check' else prepare_set(a.name, a.root, a.frames, a.set)))


def chosen(a):
    from snn_repro.exhibits import asked
    from snn_repro.experiments import find_tier
    return asked(a.experiment, find_tier(a.tier), a.variant, a.set, a.seed)


def show(a):
    "print an experiment: its id, every value of it, and where the value comes from"
    from snn_repro.exhibits import as_variant
    from snn_repro.sources import as_text, sources
    row, e = chosen(a)
    if a.diff:
        changes = diff(e, as_variant(e, a.diff))
        return print('\n'.join(f'{k:32} {v} -> {w}' for k, (v, w) in changes.items()))
    said = row and sources(e, row, 'as asked for' if a.tier == 'paper' else f'ours: tier {a.tier}, or as asked for')
    print(e.id, as_text(e, said, shutil.get_terminal_size((100, 24)).columns), sep='\n')
    if e.teacher: print(f'teacher: {e.teacher.id}')


def run(a):
    "train one experiment (and its teacher, if it has one) and print what came out"
    from snn_repro.training import Runtime, fit, trial
    for name in ('threads', 'steps'): check(getattr(a, name) is None or getattr(a, name) >= 1, f'--{name} is {getattr(a, name)}', remedy='choose 1 or more')
    row, e = chosen(a)
    out, runtime = a.out or Path('runs')/(a.tier if row else 'own'), Runtime(a.root, a.device, a.threads, True, a.checkpoint)
    if a.steps: return print(trial(e, a.steps, runtime).to_string(float_format='%.4f'))
    record = fit(e, out, runtime)
    for k in ('top1', 'aurc'): print(f'{k:16} {record.metrics[k]:.4f}')
    print(f'Run: {out/record.id}')


def main(argv=None) -> int:
    try:
        a = parser().parse_args(argv)
        a.do(a)
        return 0
    except UserError as e: print(f'snn-repro: {e}', file=sys.stderr)
    except BrokenPipeError: sys.stderr.close()
    except KeyboardInterrupt:
        print('\nsnn-repro: stopped. Finished runs are kept; the same command goes on from here.', file=sys.stderr)
        return 130
    return 1


if __name__ == '__main__': sys.exit(main())
