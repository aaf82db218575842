"""The sizes at which an experiment is run: their names, their seeds, what each is about.

Nothing here imports torch: what a list or a report says of a tier is told at once.
"""
from typing import NamedTuple

from snn_repro.core.spec import check


class Tier(NamedTuple):
    """A size. `seeds` is the largest number of paired seeds an exhibit gets, from seed `first` on;
    `spans` holds exhibits that have other seeds here: (exhibit's id, first seed, how many)."""
    name: str
    seeds: int
    about: str
    first: int = 0
    spans: tuple = ()

    def scale(self, e):
        """A paper's experiment at this size, or the run that a dict tier -> run has for it; None
        where there is none."""
        if isinstance(e, dict): return e.get(self.name)
        from snn_repro.experiments.scaling import scaled
        return scaled(e, self.name)


NEW_SEEDS = 200   # what is planned for these was planned before any run had seen them
LONG_SPANS = tuple((id, NEW_SEEDS, n) for id, n in {
    'length': 32, 'length-enof': 16, 'enof-ablation': 16, 'tks-fig3a': 16, 'tks-fig4': 16,
    'family': 16}.items())
SMALL_SPANS = tuple((id, NEW_SEEDS, 8) for id in ('length', 'length-enof', 'family-photographs'))

TIERS = {t.name: t for t in (
    Tier('mini', 8, "scikit-learn's digits, still and through a simulated event camera; "
         'small nets; minutes on two cores'),
    Tier('long', 8, "the miniature's digits and nets, sixteen times its epochs; "
         'hours on two cores', NEW_SEEDS, LONG_SPANS),
    Tier('small', 5, '10,000 images of CIFAR, real pixels, the whole test set; events: CIFAR '
         'through a simulated camera, and N-MNIST; ten models of Stanford Cars; hours on a CPU',
         spans=SMALL_SPANS),
    Tier('short', 3, "the papers' data and nets at a tenth of the epochs, in bfloat16; "
         'days of a GPU'),
    Tier('paper', 1, "the papers' data and nets, at the epochs of their public code"))}


def find_tier(name: str) -> Tier:
    "The tier of that name. Raises `UserError` with the known ones."
    check(name in TIERS, f'unknown tier {name!r}', remedy='choose from ' + ', '.join(TIERS))
    return TIERS[name]
