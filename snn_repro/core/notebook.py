"""What chapters show: the error that a call ends in, and a picture with sliders."""
import os

from snn_repro.core.spec import UserError


def refusal(f, *args, hide='', **kwargs) -> str:
    """The line of the `UserError` that `f(*args, **kwargs)` ends in; the path `hide` is shown as
    `…`. Raises `AssertionError` where there is no such error."""
    try: f(*args, **kwargs)
    except UserError as e: return str(e).replace(str(hide), '…') if hide else str(e)
    raise AssertionError('this was accepted')


def open_in_an_editor() -> bool:
    "Whether a notebook server or VS Code started this process: somebody sees what it shows."
    return bool(os.environ.keys() & {'JPY_SESSION_NAME', 'VSCODE_PID'})


def with_sliders(draw, **ranges):
    """The picture that `draw()` makes of its defaults; in a notebook that is open in an editor,
    with a slider for each of `ranges`, (least, most, step). Without ipywidgets a line says so."""
    if not open_in_an_editor(): return draw()
    try: from ipywidgets import interact
    except ImportError:
        print('For sliders: pip install ipywidgets, and restart the kernel.')
        return draw()
    interact(draw, **ranges)
