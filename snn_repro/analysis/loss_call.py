"A loss of one's own, called once as a training calls it: what it says, and what is wrong with it."
import traceback
from pathlib import Path

from torch import Tensor

from snn_repro.core.brought import is_installed
from snn_repro.core.spec import UserError
from snn_repro.experiments.experiment import Experiment
from snn_repro.losses.objectives import Teacher, total
from snn_repro.nn.layers import Output


def call_loss(e: Experiment, out: Output, y: Tensor, epoch: int, teacher: Teacher, where: str):
    """The loss of `e` and its parts for one batch; a `teacher` only if a term asks for one.
    Raises `UserError` for whatever ends the call, with the line of the loss's own code."""
    needed = any(o.needs_teacher for o in e.objective)
    try: return total(e.objective, out, y, (epoch, e.recipe.epochs), teacher if needed else None)
    except UserError: raise
    except (Exception, SystemExit) as error:
        said = f'{type(error).__name__}: {str(error).partition(chr(10))[0]}'
        frames = traceback.extract_tb(error.__traceback__)[1:]
        if isinstance(error, TypeError) and len(frames) == 1:   # its code was not entered
            raise UserError(said, where, 'define __call__(self, out, target, progress=None, '
                            'teacher=None)') from error
        at = next((f for f in reversed(frames) if not is_installed(Path(f.filename))), frames[-1])
        raise UserError(f'{said} ({at.filename}, line {at.lineno})', where, _remedy(
            error, needed, out, y)) from error


def _remedy(error: BaseException, needed: bool, out: Output, y: Tensor) -> str:
    if isinstance(error, SystemExit): return 'a loss returns, it does not end Python'
    if "'NoneType' object has no attribute" in str(error) and not needed:
        return 'teacher is None unless the class says needs_teacher = True'
    return (f'it gets out.logits {list(out.logits.shape)}, steps by images by classes, and target '
            f'{list(y.shape)}')


def own_weights(loss: Tensor, known: list[Tensor]) -> list[Tensor]:
    "The tensors that the gradient of `loss` ends in, but for those in `known`."
    seen, todo, found = {id(v) for v in known}, [loss.grad_fn], {}
    while todo:
        step = todo.pop()
        if step is None or step in seen: continue
        seen.add(step)
        v = getattr(step, 'variable', None)   # at the end of a path
        if v is not None and id(v) not in seen: found[id(v)] = v
        todo += [f for f, _ in step.next_functions]
    return [*found.values()]
