"""Packed folders opened and changed by hand: `lines` and `arrays` read, `write_lines` and
`write_arrays` write and seal again."""
import io, json, lzma

import numpy as np

from snn_repro.core.files import seal
from snn_repro.records.runs import PACKED, RECORDS


def lines(folder) -> list[dict]:
    return [json.loads(l) for l in lzma.decompress((folder/RECORDS).read_bytes()).splitlines()]


def write_lines(folder, records):
    (folder/RECORDS).write_bytes(
        lzma.compress('\n'.join([*map(json.dumps, records), '']).encode(), preset=1))
    seal(folder, PACKED)


def arrays(file) -> dict:
    with np.load(io.BytesIO(lzma.decompress(file.read_bytes())), allow_pickle=False) as f:
        return dict(f)


def write_arrays(file, found: dict):
    raw = io.BytesIO()
    np.savez(raw, **found)
    file.write_bytes(lzma.compress(raw.getvalue(), preset=1))
    seal(file.parent, PACKED)
