"""The verbs of the command line: one verb, one call."""
import sys
from pathlib import Path

from snn_repro.cli.options import at_least_one, check_machine, chosen, columns, runtime
from snn_repro.core.spec import UserError, check, diff


def reproduce(a):
    "train what is missing, write the report, and say how it compares with our runs"
    from snn_repro.analysis.catalogue import plan
    from snn_repro.analysis.exhibits import find_exhibits, pack_runs
    from snn_repro.analysis.report import write_report
    from snn_repro.experiments.tiers import find_tier
    from snn_repro.records.ledger import enter_pack
    from snn_repro.training.launch import launch
    at_least_one(a, 'workers')
    exhibits, tier, out = find_exhibits(a.only), find_tier(a.tier), a.out or Path('runs')/a.tier
    experiments, cluster = plan(exhibits, tier), a.partition or a.sbatch or a.nodes > 1
    check(a.launcher == 'slurm' or a.dry_run or not cluster,
          '--partition, --nodes and --sbatch are for a cluster', remedy='add --launcher slurm')
    if a.launcher == 'slurm' or a.dry_run:
        from snn_repro.training.slurm import Cluster, reproduce_on_slurm
        cluster = Cluster(a.partition, a.jobs, a.nodes, a.time, tuple(a.sbatch))
        failures = reproduce_on_slurm(experiments, out, runtime(a), cluster, a.dry_run)
        if a.dry_run: return
    else: failures = launch(experiments, out, runtime(a), a.workers)
    if a.pack: enter_pack(pack_runs(exhibits, tier, out, a.pack), tier.name)
    page = out/'report' if a.out else Path('reports')/a.tier
    write_report(exhibits, tier, [out], page, columns(), a.tables, against_ours=True)
    for f in failures: print(f'failed: {f.id}: {f.reason}', file=sys.stderr)
    check(not failures, f'{len(failures)} of the runs failed',
          remedy='what finished is kept: mend the cause and start the same command again')


def work_(a):
    """train the undone runs of a plan, one after the other, until none is left; start as many of
    these as you like"""
    from snn_repro.training.worker import end_with_parent, work
    end_with_parent()
    work(a.out, runtime(a))


def status(a):
    "what of a running or finished `reproduce` is done, running, failed and left, and for how long"
    from snn_repro.cli.status import status
    print(status(a.dir, columns()))


def compare(a):
    """two groups of runs, paired by seed: the effect, its interval, and what differs in their
    settings; of two single runs, every difference"""
    from snn_repro.analysis.groups import compare_text, is_run
    from snn_repro.cli.status import compare_two
    pair = len(a.runs) == 2 and all(map(is_run, a.runs))
    print(compare_two(*a.runs, columns()) if pair else compare_text(a.runs, columns()))


def plan_(a):
    "the hours that the runs of tables and figures take, from a few timed steps of each kind"
    from snn_repro.analysis.exhibits import find_exhibits
    from snn_repro.cli.plan import estimate
    from snn_repro.experiments.tiers import find_tier
    at_least_one(a, 'steps', 'devices')
    print(estimate(find_exhibits(a.id), find_tier(a.tier), a.out or Path('runs')/a.tier, a.root,
                   a.device, a.steps, a.devices, a.set, columns()))


def report(a):
    "write the report from finished runs, and compare the first folder with the others"
    from snn_repro.analysis.catalogue import find
    from snn_repro.analysis.report import folders_of, write_report
    from snn_repro.experiments.tiers import find_tier
    tier = find_tier(a.tier)
    page = a.out or Path('reports')/a.tier
    write_report(find(a.only), tier, folders_of(a.runs, tier), page, columns(), a.tables)


def verify(a):
    """whether records are as they were sealed, every number follows from its outcomes, and the
    ledger lists every run"""
    from snn_repro.analysis.verify import verify
    verify(a.dir, columns())


def list_(a):
    "tables, figures and claims: what has run and its verdict; or the experiments of one"
    from snn_repro.analysis.catalogue import find
    from snn_repro.cli.listing import experiments, overview
    from snn_repro.experiments.tiers import find_tier
    tier, out = find_tier(a.tier), a.out or Path('runs')/a.tier
    print(experiments(find([a.id]), tier, out, columns()) if a.id
          else overview(tier, out, columns()))


def data(a):
    """data sets: list them; check NAME, whether yours is whole; prepare NAME, fetch and unpack it,
    and make frames of recordings"""
    from snn_repro.analysis.tables import to_text
    from snn_repro.core.system import free_on
    from snn_repro.core.text import amount
    from snn_repro.data.prepare import check_set, prepare_set, sets_table
    if a.action == 'list':
        print(to_text(sets_table(a.root, a.frames), columns()))
        return print(f'\n{amount(free_on(a.root))} are free under {a.root}.')
    check(a.name, f'data {a.action}: which one?',
          remedy=f'snn-repro data {a.action} NAME; `snn-repro data list` names them')
    lines = (check_set(a.name, a.root, a.set) if a.action == 'check'
             else prepare_set(a.name, a.root, a.frames, a.set))
    print('\n'.join(lines))


def show(a):
    "print an experiment: its id, every value of it, and where the value comes from"
    from snn_repro.analysis.exhibits import as_variant
    from snn_repro.experiments.provenance import as_text, sources
    row, e = chosen(a)
    if a.diff:
        changed = diff(e, as_variant(e, a.diff))
        return print('\n'.join(f'{k:32} {v} -> {w}' for k, (v, w) in changed.items()))
    asked = 'as asked for' if a.tier == 'paper' else f'ours: tier {a.tier}, or as asked for'
    said = row and sources(e, row, asked)
    print(e.id, as_text(e, said, columns()), sep='\n')
    if e.teacher: print(f'teacher: {e.teacher.id}')


def run(a):
    "train one experiment (and its teacher, if it has one) and print what came out"
    at_least_one(a, 'steps')
    check_machine(a)
    check(not a.steps or a.processes == 1, '--steps tries a run in one process',
          remedy='leave out --processes')
    if record := found(a): return say_run(record, a.out or Path('runs')/a.tier, True)
    from snn_repro.records.queue import is_done
    from snn_repro.training.environment import try_steps
    from snn_repro.training.fit import fit
    row, e = chosen(a)
    out, how = a.out or Path('runs')/(a.tier if row else 'own'), runtime(a, bar=True)
    if a.steps: return print(steps_table(try_steps(e, a.steps, how, out), columns()))
    there, record = is_done(out/e.id), fit(e, out, how)
    # of several processes the first one tells
    if record: say_run(record, out, there)


def steps_table(tried, width: int) -> str:
    from snn_repro.core.text import text_table
    rows = [(step, *(f'{v:.4f}' for v in row)) for step, *row in tried.itertuples()]
    return text_table(('step', *tried.columns), rows, width)


def found(a):
    "The finished run that is asked for, where it can be told at once (`cli.finished`)."
    if a.steps or a.set or a.imports or a.variant or a.experiment.endswith('.json'): return None
    from snn_repro.cli.finished import finished
    from snn_repro.experiments.tiers import find_tier
    return finished(a.experiment, find_tier(a.tier), a.seed or 0, a.out or Path('runs')/a.tier,
                    a.root)


def say_run(record, out, there: bool):
    for k in ('top1', 'aurc'): print(f'{k:16} {record.metrics[k]:.4f}')
    print(f'Run: {"already there, from " if there else ""}{out/record.id}')


def try_(a):
    """train a loss of your own beside others with paired seeds, and judge the difference"""
    check(a.loss or a.new, 'no loss is named',
          remedy='snn-repro try my_loss.py; `snn-repro try --new my_loss.py` writes one')
    from snn_repro.analysis.trial import changed, check_trial, new_file, terms, try_loss
    if a.new: return print(new_file(a.new))
    from snn_repro.analysis.trial_page import check_text, page_folder, write_trial
    from snn_repro.core.own import own_sources, parted, pick
    from snn_repro.experiments.tiers import find_tier
    from snn_repro.losses import Objective
    from snn_repro.training.launch import worker_places
    at_least_one(a, 'seeds', 'workers')
    tier, own = find_tier(a.tier), terms(pick(a.loss, Objective))
    file, _ = parted(a.loss)
    a.imports = [*a.imports, file]
    first = tier.first if a.first_seed is None else a.first_seed
    name = ' + '.join(type(o).__name__ for o in own) + ''.join(f', {s}' for s in a.set)
    own, how = changed(own, a.set), runtime(a)
    asked = (own, tier, name, a.against, a.on, range(first, first + (a.seeds or tier.seeds)),
             a.out or Path('runs')/a.tier, how, a.workers)
    if a.check:
        seen = check_trial(*asked)
        return print(check_text(seen, columns(), seconds_each(seen, how)))
    found = try_loss(*asked)
    texts = {file.name if name == 'self' else name: text
             for o in own for of in own_sources(o).values() for name, text in of.items()}
    write_trial(found, tier, len(worker_places(how, a.workers)), texts,
                page_folder(found, file.stem, tier, a.on), columns())


def seconds_each(seen, how) -> float | None:
    """The seconds of a run with the loss that was checked, from three steps of a net that is thrown
    away. None where these cannot be taken, or mislead."""
    from snn_repro.cli.plan import cost
    from snn_repro.training.checkpoint import NonFinite
    if how.fuse or how.processes > 1 or not seen.ready.left: return None
    try: return cost(seen.field[seen.name][0], 3, how).seconds
    except NonFinite: raise
    except UserError: return None


def predict(a):
    """what the net of a finished run says of samples, in files or folders: class, confidence, and
    after how many steps"""
    from snn_repro.core.files import check_target, make_folder, write
    from snn_repro.core.text import text_table
    from snn_repro.training.trained import predict_files
    if a.csv: check_target(a.csv)
    rows = predict_files(a.run, a.images, a.stop, a.device)
    print(text_table(tuple(rows[0]), [tuple(r.values()) for r in rows], columns()))
    if a.csv:
        import pandas as pd
        make_folder(a.csv.parent)
        write(a.csv, pd.DataFrame(rows).to_csv(index=False))


def export(a):
    "write the net of a finished run for other tools, and a .json that says what it takes and gives"
    from snn_repro.training.export import export_run
    print('\n'.join(map(str, export_run(a.run, a.to, a.out))))


def bench(a):
    """how fast and how small neurons, training and inference are here, against other libraries and
    the net without spikes"""
    from snn_repro.training.worker import reexec_with_allocator
    at_least_one(a, 'threads', 'repeats')
    reexec_with_allocator()
    try:
        from snn_repro.bench.suite import write_bench
        from snn_repro.bench.timing import BenchConfig
        write_bench(a.race, BenchConfig(a.device, a.threads, a.repeats, a.peers), a.json, columns())
    except KeyboardInterrupt: sys.exit(130)


def sprint(a):
    "the seconds that an experiment takes to an accuracy: several seeds, every run counted"
    from snn_repro.bench.time_to_accuracy import write_sprint
    at_least_one(a, 'seeds')
    out = a.out or Path('runs/sprint')
    write_sprint(chosen(a)[1], a.goal, a.seeds, out, runtime(a, bar=True), a.json, columns())


VERBS = (reproduce, work_, status, compare, plan_, list_, show, run, try_, predict, export, data,
         report, verify, bench, sprint)
