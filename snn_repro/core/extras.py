"""What only some installs have: packages that an extra of the install brings."""
from importlib import import_module
from types import ModuleType

from snn_repro.core.spec import UserError


def needed(module: str, extra: str) -> ModuleType:
    """The module of that name, imported. Raises `UserError` with the command that installs it where
    it, or what it stands on, is missing: `extra` is the part of `setup.py` that brings it."""
    try: return import_module(module)
    except ModuleNotFoundError as e:
        raise UserError(f'snn-repro[{extra}] is not installed', e.name or module,
                        f'pip install "snn-repro[{extra}]"') from e
