"A loss, called as a training calls it: what is wrong with it is told in one line."
from torch import Tensor

from snn_repro.core.mistakes import mistakes_of, own_lines
from snn_repro.core.spec import check
from snn_repro.losses.objectives import Objective, Teacher, total
from snn_repro.nn.layers import Output


def call_loss(objective: tuple[Objective, ...], out: Output, target: Tensor,
              progress: tuple[int, int], teacher: Teacher) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of `out` and its parts, as `total` has them; the `teacher` only if a term asks for
    one. Raises `UserError` for whatever ends the call of a term of one's own, with its line."""
    needed = any(o.needs_teacher for o in objective)

    def remedy(error: BaseException) -> str:
        if isinstance(error, SystemExit): return 'a loss returns, it does not end Python'
        if isinstance(error, TypeError) and not own_lines(error):   # its code was not entered
            return 'define __call__(self, out, target, progress=None, teacher=None)'
        if "'NoneType' object has no attribute" in str(error) and not needed:
            return 'teacher is None unless the class says needs_teacher = True'
        return (f'it gets out.logits {list(out.logits.shape)}, steps by images by classes, and '
                f'target {list(target.shape)}')

    with mistakes_of(*objective, remedy=remedy):
        return total(objective, out, target, progress, teacher if needed else None)


def check_own_weights(loss: Tensor, known: list[Tensor], where: str):
    "Raise `UserError` where the gradient of `loss` ends in other tensors than those in `known`."
    seen: set = {id(v) for v in known}
    todo, found = [loss.grad_fn], {}
    while todo:
        step = todo.pop()
        if step is None or step in seen: continue
        seen.add(step)
        v = getattr(step, 'variable', None)   # at the end of a path
        if v is not None and id(v) not in seen: found[id(v)] = v
        todo += [f for f, _ in step.next_functions]
    check(not found, 'nothing would train its own weights '
          + ', '.join(str(list(v.shape)) for v in found.values()), where,
          'write requires_grad_(False) if they stay as they are; what is to be trained belongs '
          'into the net')
