"""Where an unfinished run goes on: two checkpoints that take turns.

The elder is overwritten, so the younger is whole whatever happens meanwhile; each counts only with its hash, which is written last.
"""
import hashlib, json, shutil, sys, time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load, save

from snn_repro.files import read_json, readable_errors, write, write_json
from snn_repro.spec import UserError, check

FOLDER, PLACES = 'checkpoint', ('a', 'b')


def capture(net: torch.nn.Module, opt: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    "All tensors that the next step depends on: the net's and the optimiser's."
    kept = {f'opt.{i}.{k}': v for i, s in opt.state_dict()['state'].items() for k, v in s.items() if v is not None}
    return {f'net.{k}': v for k, v in net.state_dict().items()} | kept


def restore(net: torch.nn.Module, opt: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]):
    "Put back what `capture` took."
    net.load_state_dict({k.removeprefix('net.'): v for k, v in tensors.items() if k.startswith('net.')})
    kept = {}
    for k, v in tensors.items():
        if k.startswith('opt.'): kept.setdefault(int(k.split('.')[1]), {})[k.split('.')[2]] = v
    opt.load_state_dict(opt.state_dict() | {'state': kept})


def save_checkpoint(run, tensors: dict[str, torch.Tensor], state: dict):
    "Write tensors and plain data in place of the elder checkpoint of the folder `run`. Raises `UserError` where the folder cannot be written."
    check(Path(run).is_dir(), 'this folder was removed while its run was training', str(run), 'start the same command again')
    folder = Path(run)/FOLDER
    with readable_errors(folder): folder.mkdir(exist_ok=True)
    counts = {p: _count(folder/f'{p}.json') for p in PLACES}
    place, count = min(counts, key=counts.get), max(counts.values()) + 1
    content = save({k: v.detach().cpu().contiguous() for k, v in tensors.items()})
    write(folder/f'{place}.safetensors', content)
    write_json(folder/f'{place}.json', {'count': count, 'state': state, 'sha256': _digest(content, count, state)})


def load_checkpoint(run) -> tuple[dict[str, torch.Tensor], dict] | None:
    "The tensors and data of the youngest whole checkpoint of the folder `run`, or None. A damaged one is passed over, and that is said."
    folder = Path(run)/FOLDER
    for place in sorted((p for p in PLACES if (folder/f'{p}.json').exists()), key=lambda p: -(_count(folder/f'{p}.json') or float('inf'))):
        try:
            about, content = read_json(folder/f'{place}.json'), (folder/f'{place}.safetensors').read_bytes()
            if about['sha256'] == _digest(content, about['count'], about['state']): return load(content), about['state']
        except (OSError, UserError, KeyError, TypeError): pass
        print(f'snn-repro: {folder/place}: this checkpoint is not whole, going on from the one before', file=sys.stderr)
    return None


def drop_checkpoints(run): shutil.rmtree(Path(run)/FOLDER, ignore_errors=True)


@dataclass
class Sums:
    "What an epoch has added up so far: the parts of the loss (tensors), right answers, images, steps."
    parts: dict = field(default_factory=dict)
    right: int = 0
    seen: int = 0
    steps: int = 0

    def add(self, parts: dict, correct: torch.Tensor):
        for k, v in parts.items(): self.parts[k] = self.parts.get(k, 0) + v
        self.right, self.seen, self.steps = self.right + correct.sum().item(), self.seen + len(correct), self.steps + 1

    def means(self) -> dict: return {k: float(v)/self.steps for k, v in self.parts.items()} | {'train': self.right/self.seen}


class Progress:
    "How far a run is: (`epoch`, `sums`, `history`, `seconds`). It starts where the last whole checkpoint in `folder` left it."
    def __init__(self, folder: Path, net: torch.nn.Module, opt, every: float, device: str):
        self.folder, self.net, self.opt, self.every = folder, net, opt, every
        self.epoch, self.sums, self.history, self.before, self.start = 0, Sums(), [], 0.0, time.perf_counter()
        self.saved, found = self.start, load_checkpoint(folder)
        if found:
            tensors, state = found
            restore(net, opt, tensors)
            self.epoch, self.history, self.before = state['epoch'], state['history'], state['seconds']
            self.sums = Sums({k: tensors[f'sums.{k}'].to(device) for k in state['parts']}, **state['sums'])   # in the order of the loss's parts

    @property
    def seconds(self) -> float: return self.before + time.perf_counter() - self.start

    def tick(self, sums: Sums):
        "Called after each step: a checkpoint, if it is time."
        if time.perf_counter() - self.saved < self.every: return
        state = {'epoch': self.epoch, 'history': self.history, 'seconds': self.seconds, 'parts': list(sums.parts),
                 'sums': {k: getattr(sums, k) for k in ('right', 'seen', 'steps')}}
        save_checkpoint(self.folder, capture(self.net, self.opt) | {f'sums.{k}': v for k, v in sums.parts.items()}, state)
        self.saved = time.perf_counter()


def _count(path: Path) -> int:
    try: return int(json.loads(path.read_bytes())['count'])
    except (OSError, ValueError, KeyError, TypeError): return 0


def _digest(content: bytes, count: int, state: dict) -> str:
    return hashlib.sha256(content + json.dumps([count, state], sort_keys=True).encode()).hexdigest()
