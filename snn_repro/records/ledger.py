"""The ledger of the evidence: a line for every run that was ever launched for it, the discarded
ones too. It only grows.

`ledger.csv` lies beside the packed folders that it tells of. A later line of the same run says what
has become of it.
"""
import csv, io, os, time
from pathlib import Path
from typing import NamedTuple

from snn_repro.core.files import read_bytes, readable, readable_errors
from snn_repro.core.spec import check, shown
from snn_repro.records.runs import RECORDS, Runs

LEDGER = 'ledger.csv'
PURPOSES = ('final', 'preliminary', 'search', 'discarded')


class Line(NamedTuple):
    """`date`: the day of the entry (UTC); `seconds` of the run; `commit` of the library that
    trained it, empty where it is not known."""
    date: str
    tier: str
    id: str
    purpose: str
    seconds: float
    cpu: str
    cores: str
    device: str
    commit: str
    remark: str

    @property
    def run(self) -> tuple: return self.id, self.commit, self.seconds


def run_of(r) -> tuple:
    "What tells the run of a record from every other: its id, the commit, and how long it took."
    return _said(r.id), _said(r.env.get('commit') or ''), r.env['seconds']


def enter(records, path, tier: str, purpose: str, remark: str = '') -> int:
    """Append a line to the ledger `path` for each of `records` that is not in it, or stands in it
    with another purpose; how many that were. What was written before stays byte for byte. Raises
    `UserError` for an unknown purpose and a damaged ledger."""
    check(purpose in PURPOSES, f'unknown purpose {purpose!r}', str(path),
          'choose from ' + ', '.join(PURPOSES))
    known = standing(read_ledger(path)) if Path(path).exists() else {}
    new = [r for r in records if run_of(r) not in known or known[run_of(r)].purpose != purpose]
    return _append(path, [_line(r, tier, purpose, remark) for r in new])


def enter_pack(folder, tier: str) -> int:
    """Enter the runs of a packed folder as final into the ledger beside it; final runs of `tier`
    that no packed folder there holds any more are discarded. Returns how many lines were
    appended."""
    path = ledger_beside(folder)
    added = enter(Runs(folder), path, tier, 'final')
    held = {run_of(r) for p in path.parent.rglob(RECORDS) for r in Runs(p.parent)}
    lines = standing(read_ledger(path)).values() if path.exists() else ()
    gone = [l for l in lines if (l.tier, l.purpose) == (tier, 'final') and l.run not in held]
    return added + _append(
        path, [l._replace(date=_today(), purpose='discarded', remark='superseded') for l in gone])


def ledger_beside(folder) -> Path:
    """The ledger that tells of a packed folder: beside it, or, for a block of a tier, beside the
    tier's folder."""
    beside = Path(folder).parent/LEDGER
    above = beside.parent.parent/LEDGER
    return above if above.exists() and not beside.exists() else beside


def read_ledger(path) -> list[Line]:
    "The lines of a ledger. Raises `UserError` where one is damaged."
    with readable(path, 'restore the file'):
        text = read_bytes(path).decode()
        check(text.endswith('\n'), 'its last line is not whole')
        head, *rows = csv.reader(io.StringIO(text), strict=True)
        check(tuple(head) == Line._fields, f'its head is not {",".join(Line._fields)}')
        return [_parsed(n, row) for n, row in enumerate(rows, 2)]


def standing(lines) -> dict:
    "The last line of each run, by `Line.run`."
    return {l.run: l for l in lines}


def hours(lines) -> dict:
    "(tier, purpose) -> (number of runs, hours), each run counted once, as its last line has it."
    spent = {}
    for l in standing(lines).values(): spent.setdefault((l.tier, l.purpose), []).append(l.seconds)
    return {k: (len(v), sum(v)/3600) for k, v in sorted(spent.items())}


def _parsed(n: int, row: list) -> Line:
    check(len(row) == len(Line._fields), f'line {n} has {len(row)} of {len(Line._fields)} values')
    line = Line(*row)
    check(line.purpose in PURPOSES, f'line {n}: unknown purpose {shown(line.purpose)}')
    line = line._replace(seconds=float(line.seconds))
    check(0 <= line.seconds < 1e12, f'line {n}: {line.seconds} seconds')
    return line


def _line(r, tier: str, purpose: str, remark: str) -> Line:
    remarks = [remark, 'from changes that were not committed' if r.env.get('dirty') else '']
    hardware, (id, commit, seconds) = r.env['hardware'], run_of(r)
    device = _said(f'{r.env["device"]} {hardware.get("gpu", "")}')
    return Line(_today(), tier, id, purpose, seconds, _said(hardware['cpu']),
                str(hardware['cores']), device, commit, _said('; '.join(filter(None, remarks))))


def _append(path, lines: list[Line]) -> int:
    if not lines: return 0
    text = io.StringIO()
    out = csv.writer(text, lineterminator='\n')
    with readable_errors(path), open(path, 'a', encoding='utf-8', newline='') as f:
        if not f.tell(): out.writerow(Line._fields)
        out.writerows(lines)
        f.write(text.getvalue())
        f.flush()
        os.fsync(f.fileno())
    return len(lines)


def _today() -> str: return time.strftime('%Y-%m-%d', time.gmtime())


def _said(text) -> str:
    "Text from a record as one line that any reader of CSV can take."
    return ''.join(c if c.isprintable() else '?' for c in ' '.join(str(text).split()))
