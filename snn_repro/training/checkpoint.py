"""Where an unfinished run goes on: two checkpoints that take turns.

The elder is overwritten, so the younger is whole whatever happens meanwhile; each counts only with
its hash, which is written last.
"""
import hashlib, json, math, shutil, sys, time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load, save

from snn_repro.core.files import PART, read_json, readable, readable_errors, write, write_json
from snn_repro.core.spec import UserError, check
from snn_repro.nn.layers import SpikingNet

FOLDER, PLACES = 'checkpoint', ('a', 'b')
# per weight
KEPT = {'SGD': {'momentum_buffer'}, 'Adam': {'step', 'exp_avg', 'exp_avg_sq'},
        'AdamW': {'step', 'exp_avg', 'exp_avg_sq'}}


def capture(net: torch.nn.Module, opt: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    "All tensors that the next step depends on: the net's and the optimiser's."
    kept = {f'opt.{i}.{k}': v for i, s in opt.state_dict()['state'].items()
            for k, v in s.items() if v is not None}
    return {f'net.{k}': v for k, v in net.state_dict().items()} | kept


def restore(net: torch.nn.Module, opt: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]):
    "Put back what `capture` took."
    net.load_state_dict(
        {k.removeprefix('net.'): v for k, v in tensors.items() if k.startswith('net.')})
    kept = {}
    for k, v in tensors.items():
        if k.startswith('opt.'): kept.setdefault(int(k.split('.')[1]), {})[k.split('.')[2]] = v
    opt.load_state_dict(opt.state_dict() | {'state': kept})


def file_bytes(tensors: dict[str, torch.Tensor]) -> bytes:
    "`tensors` as the bytes of a file; one with several names stands there under each."
    return save({k: v.detach().cpu().clone(memory_format=torch.contiguous_format)
                 for k, v in tensors.items()})


def check_kept(net: torch.nn.Module, fresh: dict[str, tuple], where: str):
    """Raise `UserError` unless checkpoint and record can keep all that `net` holds, and a net of
    these `fresh` forms, as `forms` tells them, can take it again."""
    for name, v in net.state_dict().items():
        try: file_bytes({name: v}), v.detach().cpu().numpy()
        except Exception as e:
            said = str(e).partition('\n')[0]
            raise UserError(f'{name} cannot be saved ({type(e).__name__}: {said})', where,
                            'keep dense tensors of usual dtypes in parameters and buffers, and '
                            'register_buffer(..., persistent=False) what need not be kept') from e
    found = forms(net)
    other = sorted(k for k in fresh.keys() | found.keys() if fresh.get(k) != found.get(k))
    check(not other, f'{", ".join(other)} of the new net and of one that has seen images are not '
          'alike, so it could not be loaded', where,
          'make all parameters and buffers when the net is built')


def forms(net: torch.nn.Module) -> dict[str, tuple]:
    "Shape and dtype of all that a net holds, by name."
    return {k: (v.shape, v.dtype) if torch.is_tensor(v) else (type(v),)
            for k, v in net.state_dict().items()}


class NonFinite(UserError):
    "A loss, a weight or another value of a run that is infinite or not a number."


def not_finite(net: torch.nn.Module, opt: torch.optim.Optimizer) -> str:
    """The first of the tensors that the next step depends on which is not all finite, in words.
    It holds an infinite value or none; the text is empty if all are finite."""
    names = {p: n for n, p in net.named_parameters()}
    kept = {(names[p], k): v for p, state in opt.state.items()
            for k, v in state.items() if torch.is_tensor(v)}
    mine = {(n, ''): v for n, v in net.state_dict().items()}
    found = {k: v for k, v in (mine | kept).items() if v.is_floating_point()}
    good = torch.stack([v.isfinite().all().to(next(iter(found.values())).device)
                        for v in found.values()])   # one question to a GPU, not one for each
    if good.all(): return ''
    (name, state), v = list(found.items())[good.logical_not().nonzero()[0].item()]
    layer, _, tensor = name.rpartition('.')
    of = f' ({state} of the optimiser)' if state else ''
    return f'{tensor}{of} of layer {layer or "0"} holds {v[~v.isfinite()][0].item()}'


def check_fits(net: torch.nn.Module, opt: torch.optim.Optimizer, tensors: dict[str, torch.Tensor],
               state: dict):
    """Raise, before anything is changed, unless a checkpoint's tensors are those of this net and
    optimiser, and its data those of `Progress`."""
    weights, kept = [p for g in opt.param_groups for p in g['params']], {}
    found = {k: (v.shape, v.dtype) for k, v in tensors.items() if k.startswith('net.')}
    check(found == {f'net.{k}': v for k, v in forms(net).items()}, 'it is of another net')
    for k, v in tensors.items():
        kind, i, *name = k.split('.')
        if kind != 'opt': continue
        kept.setdefault(i, set()).update(name)
        check(i in map(str, range(len(weights))) and len(name) == 1 and v.is_floating_point(),
              'it is of another optimiser')
        check(v.shape == (() if name[0] == 'step' else weights[int(i)].shape),
              'it is of another optimiser')
    check(all(names == KEPT[type(opt).__name__] for names in kept.values()),
          'it is of another optimiser')
    counts, whole = ([state['epoch'], *(state['sums'][k] for k in ('right', 'seen', 'steps'))],
                     'its account of the epochs is not whole')
    check(len(state['sums']) == 3 and all(type(n) is int and 0 <= n < 2**53 for n in counts)
          and counts[1] <= counts[2] >= counts[3], whole)
    check(all(type(p) is str and tensors[f'sums.{p}'].shape == ()
              and tensors[f'sums.{p}'].is_floating_point() for p in state['parts']), whole)
    check(type(state['history']) is list and len(state['history']) == state['epoch']
          and math.isfinite(state['seconds']), whole)
    check(all(type(v) is float or type(v) is int and abs(v) < 2**53 for row in state['history']
              for v in row.values()), whole)


def save_checkpoint(run, tensors: dict[str, torch.Tensor], state: dict):
    """Write tensors and plain data in place of the elder checkpoint of the folder `run`. Raises
    `UserError` where the folder cannot be written."""
    check(Path(run).is_dir(), 'this folder was removed while its run was training', str(run),
          'start the same command again')
    folder = Path(run)/FOLDER
    check(not folder.is_symlink(), 'a link to somewhere else', str(folder), 'remove it')
    with readable_errors(folder): folder.mkdir(exist_ok=True)
    counts = {p: _count(folder/f'{p}.json') for p in PLACES}
    place, count = min(counts, key=counts.get), max(counts.values()) + 1
    content = file_bytes(tensors)
    write(folder/f'{place}.safetensors', content)
    write_json(folder/f'{place}.json',
               {'count': count, 'state': state, 'sha256': _digest(content, count, state)})


def load_checkpoint(run, fits=lambda tensors, state: None
                    ) -> tuple[dict[str, torch.Tensor], dict] | None:
    """The tensors and data of the youngest whole checkpoint of the folder `run`, or None. One that
    is damaged, or for which `fits(tensors, data)` raises, is passed over, and that is said."""
    folder = Path(run)/FOLDER
    for place in sorted((p for p in PLACES if (folder/f'{p}.json').exists()),
                        key=lambda p: -(_count(folder/f'{p}.json') or math.inf)):
        file = folder/f'{place}.safetensors'
        try:
            with readable(file):
                about = read_json(folder/f'{place}.json')
                content = file.read_bytes()
                check(about['sha256'] == _digest(content, about['count'], about['state']),
                      'its hash differs')
                tensors = load(content)
                fits(tensors, about['state'])
                return tensors, about['state']
        except UserError as e:
            print('snn-repro:', UserError('this checkpoint is not whole, going on from the one '
                                          f'before ({e.what})', str(folder/place)), file=sys.stderr)
            with suppress(OSError):
                # so that the next one is written in its place, not over the good one
                (folder/f'{place}.json').unlink()
    return None


def drop_checkpoints(run): shutil.rmtree(Path(run)/FOLDER, ignore_errors=True)


@dataclass
class Sums:
    """What an epoch has added up so far: the parts of the loss (tensors), right answers, images,
    steps."""
    parts: dict = field(default_factory=dict)
    right: int = 0
    seen: int = 0
    steps: int = 0

    def add(self, parts: dict, right: int, seen: int):
        for k, v in parts.items(): self.parts[k] = self.parts.get(k, 0) + v
        self.right, self.seen, self.steps = self.right + right, self.seen + seen, self.steps + 1

    def means(self) -> dict:
        return ({k: float(v)/self.steps for k, v in self.parts.items()}
                | {'train': self.right/self.seen})


class Progress:
    """How far a run on the data with the hash `data` is: (`epoch`, `sums`, `history`, `seconds`).
    `train` is the hash of their training part. It starts where the last whole checkpoint in
    `folder` left it, also where the test part was mended meanwhile, which is said. Process 0 of
    the team `dist` reads and writes, after `still()`, which raises if the folder is no longer
    ours."""
    def __init__(self, folder: Path, net: SpikingNet, opt, every: float, dist,
                 still=lambda: None, data: str = '', train: str = ''):
        self.folder, self.net, self.opt, self.every = folder, net, opt, every
        self.dist, self.still, self.data, self.train = dist, still, data, train
        self.epoch, self.sums, self.history, self.before, self.start = (0, Sums(), [], 0.0,
                                                                        time.perf_counter())
        self.saved, found, self.good = (
            self.start,
            dist.on_main(lambda: _tidy(folder) or load_checkpoint(
                folder, lambda *found: check_fits(net, opt, *found))),
            'there is no checkpoint yet')
        if found:
            tensors, state = found
            self._check_data(state)
            restore(net, opt, tensors)
            self.epoch, self.history, self.before = (state['epoch'], state['history'],
                                                     state['seconds'])
            # in the order of the loss's parts
            self.sums = Sums({k: tensors[f'sums.{k}'].to(dist.device) for k in state['parts']},
                             **state['sums'])
            self._remember()

    @property
    def seconds(self) -> float: return self.before + time.perf_counter() - self.start

    def check_finite(self, steps: int):
        """Raise `NonFinite` where the net or the optimiser holds what is no finite number.
        A net may hide it for long: a neuron makes spikes of anything."""
        found = not_finite(self.net, self.opt)
        if self.dist.any(bool(found)):
            raise NonFinite(f'{found or "a value is not finite"} in epoch {self.epoch}, '
                            f'after step {steps}', self.folder.name, 'lower recipe.lr')

    def tick(self, sums: Sums):
        "Called after each step: a checkpoint, if it is time. Raises `NonFinite`."
        if not self.dist.any(time.perf_counter() - self.saved >= self.every): return
        self.check_finite(sums.steps)
        state = {'epoch': self.epoch, 'history': self.history, 'seconds': self.seconds,
                 'data': self.data, 'train': self.train, 'parts': list(sums.parts),
                 'sums': {k: getattr(sums, k) for k in ('right', 'seen', 'steps')}}
        tensors = capture(self.net, self.opt) | {f'sums.{k}': v for k, v in sums.parts.items()}
        self.saved = time.perf_counter()
        self.dist.on_main(lambda: self._save(tensors, state))
        self._remember()

    def _check_data(self, state: dict):
        if state.get('data', self.data) == self.data: return
        same = bool(self.train) and state.get('train') == self.train
        check(same, 'the data set is another one than when this run began', str(self.folder),
              'restore it, or remove this folder')
        said = (f'snn-repro: {self.folder}: its test data changed since this run began; '
                'it goes on, for the training data are the same')
        self.dist.on_main(lambda: print(said, file=sys.stderr))

    def _save(self, tensors: dict, state: dict):
        self.still()
        save_checkpoint(self.folder, tensors, state)

    def _remember(self):
        self.good = (f'the last whole checkpoint is that of epoch {self.epoch}, after '
                     f'{self.sums.steps} steps, in {self.folder/FOLDER}')


def _tidy(run: Path):
    "Remove what was being written when a process died."
    with readable_errors(run):
        for half in (run/FOLDER).glob(f'*{PART}'): half.unlink()


def _count(path: Path) -> int:
    try: count = read_json(path)['count']
    except (UserError, KeyError, TypeError): return 0
    return count if type(count) is int and 0 < count < 2**53 else 0


def _digest(content: bytes, count: int, state: dict) -> str:
    return hashlib.sha256(content + json.dumps([count, state], sort_keys=True).encode()).hexdigest()
