"A run that is killed goes on with the very next step, and ends in the bytes of one left in peace."
import json, os, random, signal, subprocess, sys, time
from pathlib import Path

import pytest
import torch

from conftest import NAME
from snn_repro.checkpoint import FOLDER, PLACES, load_checkpoint, save_checkpoint

SETTING = ['--set', 'recipe.epochs=8', '--set', 'recipe.test_every=3', '--set', 'augment={"type": "CropFlip", "pad": 1}']
STEPS = 8*5


def command(out, *more): return [sys.executable, '-m', 'snn_repro', 'run', NAME, *SETTING, '--out', str(out), *more]


def run(out, *more):
    done = subprocess.run(command(out, *more), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr


def steps_of(folder: Path) -> int:
    "How many steps the checkpoints in a run's folder have seen."
    counts = []
    for p in folder.glob(f'*/{FOLDER}/?.json'):
        try: counts.append(json.loads(p.read_text())['count'])
        except (ValueError, FileNotFoundError): pass
    return max(counts, default=0)


def results(out):
    folder, = out.glob('cifar10-*') if list(out.glob('cifar10-*')) else out.glob('digits-*')
    assert not (folder/FOLDER).exists()
    return {n: (folder/n).read_bytes() for n in ('config.json', 'history.csv', 'outputs.safetensors', 'features.safetensors', 'metrics.json', 'weights.safetensors')}


@pytest.fixture(scope='module')
def in_peace(tmp_path_factory):
    out = tmp_path_factory.mktemp('peace')
    run(out)
    return results(out)


def kill_after(out, steps: int):
    "Start or go on, with a checkpoint a step, and kill the process once `steps` steps are saved."
    process = subprocess.Popen(command(out, '--checkpoint', '0'), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.time() + 120
    while steps_of(out) < steps and process.poll() is None and time.time() < deadline: time.sleep(.001)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, 'it was not killed in time'
    return steps_of(out)


def test_four_kills_change_no_byte(in_peace, tmp_path):
    chance, seen = random.Random(0), [0]
    for left in (4, 3, 2, 1):
        seen.append(kill_after(tmp_path, seen[-1] + chance.randint(1, max(1, (STEPS - 4 - seen[-1])//left))))
    assert sorted(set(seen)) == seen and seen[-1] < STEPS, seen
    run(tmp_path)
    assert results(tmp_path) == in_peace


@pytest.mark.parametrize('harm', ['cut short', 'changed', 'gone', 'no sidecar'])
def test_a_damaged_checkpoint_is_passed_over(in_peace, tmp_path, harm):
    kill_after(tmp_path, 7)
    places = {p: tmp_path.glob(f'*/{FOLDER}/{p}.json').__next__() for p in PLACES}
    young = max(places.values(), key=lambda p: json.loads(p.read_text())['count'])
    tensors = young.with_suffix('.safetensors')
    if harm == 'cut short': tensors.write_bytes(tensors.read_bytes()[:-100])
    if harm == 'changed': tensors.write_bytes(tensors.read_bytes()[:-1] + b'\x01')
    if harm == 'gone': tensors.unlink()
    if harm == 'no sidecar': young.write_text('{')
    said = run(tmp_path)
    assert 'this checkpoint is not whole, going on from the one before' in said
    assert results(tmp_path) == in_peace


def test_two_places_take_turns(tmp_path):
    assert load_checkpoint(tmp_path) is None
    for n in range(1, 5):
        save_checkpoint(tmp_path, {'x': torch.full((3,), float(n))}, {'n': n, 'third': n/3})
        tensors, state = load_checkpoint(tmp_path)
        assert state == {'n': n, 'third': n/3} and torch.equal(tensors['x'], torch.full((3,), float(n)))
    assert sorted(p.name for p in (tmp_path/FOLDER).iterdir()) == ['a.json', 'a.safetensors', 'b.json', 'b.safetensors']
