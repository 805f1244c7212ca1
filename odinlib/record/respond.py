"""Making the record of a network: `odin respond` goes through its plan, and goes on where it stopped."""

import itertools
from collections.abc import Iterator, Sequence

from odinlib import datasets
from odinlib.errors import Missing, check_number
from odinlib.profiles import Trained
from odinlib.record.plan import Item, beside, make, plan, resampled, sets
from odinlib.store import Setting


def respond(of: Trained, only: Sequence[str] | None = None, at: Sequence[Setting] = ()) -> Iterator[str]:
    """Make every artefact that the book needs of a network, yielding a line for each as it is done.

    A set whose images are not here is named, and left out from then on.

    Args:
        of: the network; its profile must compute.
        only: sets, where not all are wanted; they need not be among the profile's.
        at: settings (T, epsilon) whose scores are all that is wanted; none: the whole plan.

    Raises:
        Missing: the network, or its own set, cannot be had here.
        UserError: a set or a setting that cannot be.
    """
    for temperature, epsilon in at:
        check_number("temperature", temperature, above=0)
        check_number("epsilon", epsilon, at_least=0)
    of = _with_sets(of, only or ())
    absent: set[str] = set()
    done: set[Item] = set()
    while items := [item for item in _wanted(of, only, at, absent) if item not in done]:
        # A kind at a time: what tuning chooses is known when the grids are there.
        for images, group in itertools.groupby(_batch(items), key=lambda item: item.images):
            several = list(group)
            done.update(several)
            if images in absent:
                continue
            try:
                make(of, several)
                yield from (f"{item} by {of.key}" for item in several)
            except Missing as reason:
                if images == of.id_set:
                    raise
                absent.add(images)
                yield f"without {images}: {reason}"


def _wanted(of: Trained, only: Sequence[str] | None, at: Sequence[Setting], absent: set[str]) -> list[Item]:
    if at:
        return [Item("scores", images, setting) for images in only or plan_sets(of) for setting in at]
    items = plan(of, frozenset(absent))
    known = [item for item in items if item.kind != "scores" or item.setting is not None]
    return [item for item in known if only is None or item.images in only]


def _with_sets(of: Trained, only: Sequence[str]) -> Trained:
    """The network under a profile whose tables have these sets too, where nothing is planned of them."""
    for images in only:
        datasets.title(images)  # which refuses what is no set
    known = {*sets(of), *resampled(of), *beside(of)}
    tabled = (*of.profile.ood_sets[of.id_set], *(images for images in only if images not in known))
    return of.among(ood_sets={**of.profile.ood_sets, of.id_set: tabled})


def plan_sets(of: Trained) -> list[str]:
    """The sets of a network's plan."""
    return list(dict.fromkeys(item.images for item in plan(of)))


def _batch(items: list[Item]) -> list[Item]:
    """The next items: those that follow each other and are of the kind of the first."""
    return list(itertools.takewhile(lambda item: item.kind == items[0].kind, items))
