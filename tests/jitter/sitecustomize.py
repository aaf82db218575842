"""Python runs this file at its start where its folder is in PYTHONPATH.
With SNN_REPRO_JITTER=SEED in the environment, torch computes as another processor might from the
moment it is imported, in this process and in those that it starts. `make test-portable` sets
both."""
import os, sys
from importlib.abc import Loader, MetaPathFinder
from importlib.util import find_spec
from pathlib import Path


class After(Loader):
    "Loads a module as `loader` does, and calls `then` after it."
    def __init__(self, loader, then): self.loader, self.then = loader, then
    def create_module(self, spec): return self.loader.create_module(spec)
    def exec_module(self, module):
        self.loader.exec_module(module)
        self.then()


class OnTorch(MetaPathFinder):
    "Jitters torch once it is loaded; nothing else is touched, and nothing is imported early."
    def find_spec(self, name, path=None, target=None):
        if name != 'torch': return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec: spec.loader = After(spec.loader, pretend)
        return spec


def pretend():
    "Executed, not imported: a module would be one that a user's file brings in with torch."
    file, names = Path(__file__).with_name('another_processor.py'), {}
    exec(compile(file.read_text(encoding='utf-8'), file, 'exec'), names)
    names['pretend'](int(os.environ['SNN_REPRO_JITTER']))


if os.environ.get('SNN_REPRO_JITTER'): sys.meta_path.insert(0, OnTorch())
