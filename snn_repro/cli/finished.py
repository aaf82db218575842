"""A finished run that is asked for by its name: found at once, for nothing here imports torch.

All that `training.fit` compares before it takes a run for finished is compared here, too: the
hashes of its files, its setting (by the key), and names, sizes and times of the data's files. Where
one of these cannot be told without torch, or differs, there is no answer, and `fit` looks itself:
for a setting with changes, a file of one's own, records from before files were noted, and data that
have been touched.
"""
from pathlib import Path

from snn_repro.analysis.catalogue import Run, contents, exhibits, named, scaled_to
from snn_repro.core.system import place
from snn_repro.experiments.tiers import Tier
from snn_repro.records.queue import is_done
from snn_repro.records.runs import Record, open_run
from snn_repro.records.seen import home_in, stamp_of


def finished(name: str, tier: Tier, seed: int, out, root) -> Record | None:
    """The record of the experiment `name` in the folder `out`; None where it is not finished, or
    that cannot be told here. Raises `UserError` where a file of it was changed."""
    row = next((r for x in exhibits() for n, r in named(x).items() if n == name), None)
    run = row and scaled_to(tier, row, seed)
    if not run or place()[1] > 1: return None
    folder = Path(out)/run.id
    if not is_done(folder) or (folder/'checkpoint').exists(): return None
    record = open_run(folder)
    known = Run.from_dict(record.config) == run and same_files(record, root)
    return record if known else None


def same_files(record: Record, root) -> bool:
    """Whether the data of `record` are made of no files, or of files that are as the run saw them,
    or not there: data that are gone say nothing against it."""
    data = record.config['data']
    while isinstance(data.get('of'), dict): data = data['of']
    homes = contents()['homes'].get(data.get('type'))
    if homes is None: return False
    home = home_in(homes, root)
    return home is None or stamp_of(home) == record.env.get('files')
