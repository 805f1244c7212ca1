"""Every number that the paper prints in a table, and whether the record has ours beside it."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterable

import pandas as pd

from odinlib import experiments, metrics, reference, store
from odinlib.datasets import NOISE
from odinlib.errors import Missing
from odinlib.measure import distances
from odinlib.odin import Setting
from odinlib.profiles import Profile, Trained
from odinlib.record.status import CARD, COMPUTABLE, RECORDED, images_are_here, weights_here

Tuned = Callable[[Trained, str], Setting]
#: How a printed cell can stand, best first, with what each means.
STATES = {
    "recorded": "ours is recorded, from the paper's network and images",
    "stand-in": "recorded of what stands for them only: another training of the network, or images like these",
    "computable": "not recorded; weights, or what trains them, and images are on this machine",
    "needs data": "the network is known, images are not on this machine",
    "needs weights": "no such network is on this machine, nor is what trains it",
}
#: The page that regenerates each table.
TABLE_PAGES = {
    **dict.fromkeys(("1", "2"), "04-experiments"),
    **dict.fromkeys(map(str, range(3, 10)), "A-supplementary-results"),
    "G": "G-distances",
    **dict.fromkeys(("10", "11"), "H-additional-discussions"),
    "12": "I-additional-analysis",
}


def coverage(profile: Profile) -> pd.DataFrame:
    """The printed cells of Tables 1 to 12 and of Appendix G's.

    Returns:
        The rows of `reference.tables` but those of the running text, in the paper's order, with `state`, one of
        `STATES`.
    """
    profile = dataclasses.replace(profile, compute=False)
    cells = reference.tables()
    cells = cells[cells.table.isin(TABLE_PAGES)].reset_index(drop=True)
    chosen: dict[tuple[str, str], experiments.Gathered[str, Setting]] = {}

    def tuned(of: Trained, images: str) -> Setting:
        """`experiments.tune`, once for each pair: a table of transfers asks for it again and again."""
        pair = of.key, images
        if pair not in chosen:
            chosen[pair] = experiments.gather(lambda name: experiments.tune(of, name), [images])
        if not chosen[pair]:
            raise Missing(chosen[pair].missing[images])
        return chosen[pair][images]

    state = functools.cache(lambda *cell: _state(profile, tuned, *cell))  # the five measures of a pair stand alike
    asked = ("network", "id_set", "ood_set", "tuning_set", "method")
    kinds = ["rates" if metric in metrics.METRICS else metric for metric in cells.metric]
    found = zip(kinds, *(cells[column] for column in asked), strict=True)
    return cells.assign(state=[state(*cell) for cell in found])


def counts(cells: pd.DataFrame) -> pd.DataFrame:
    """How many cells of `coverage` stand how: a row for each table, and one for all; a column for each of `STATES`."""
    by_table = cells.groupby(["table", "state"], sort=False).size().unstack(fill_value=0)
    by_table = by_table.reindex(columns=list(STATES), fill_value=0)
    return pd.concat([by_table, by_table.sum().rename("all").to_frame().T])


def _state(
    profile: Profile, tuned: Tuned, kind: str, network: str, id_set: str, ood_set: str, tuning_set: str, method: str
) -> str:
    if kind in ("mmd", "energy"):
        if distances.is_recorded(profile, id_set, ood_set):
            return RECORDED
        return COMPUTABLE if _are_here(id_set, ood_set) else "needs data"
    of = profile.trained(network, id_set)
    if _is_measured(of, tuned, kind, ood_set, tuning_set, method):
        return RECORDED
    alike = [ood_set, *(name for name, role in profile.stands_for.items() if role == ood_set)]
    for training in store.trainings(of):
        other = profile.trained(network, id_set, training)
        if any(_is_measured(other, tuned, kind, images, tuning_set and images, method) for images in alike):
            return "stand-in"
    weights, images = weights_here(of), _are_here(id_set, *filter(None, (ood_set, tuning_set)))
    if weights in (RECORDED, COMPUTABLE) and images:
        return COMPUTABLE
    return "needs weights" if images or weights not in (RECORDED, CARD) else "needs data"


def _are_here(*sets: str) -> bool:
    return all(images_are_here(name) for name in sets if name not in NOISE)


def _is_measured(of: Trained, tuned: Tuned, kind: str, ood_set: str, tuning_set: str, method: str) -> bool:
    """Whether the record answers for a cell, without computing what it says."""
    with contextlib.suppress(Missing):
        if kind == "test_error":
            return experiments.test_error(of) is not None
        if kind in ("epsilon", "temperature"):
            return tuned(of, ood_set) is not None
        return any(_are_tested(of, ood_set, one) for one in _settings(of, tuned, ood_set, tuning_set, method))
    return False


def _settings(of: Trained, tuned: Tuned, ood_set: str, tuning_set: str, method: str) -> Iterable[Setting]:
    """The settings that answer for a cell: for ODIN in Tables 2, 3 and 12 the paper's own or the one tuned here."""
    if method == "baseline":
        yield experiments.BASELINE
        return
    if not tuning_set and (stated := experiments.stated(of, ood_set)):
        yield stated
    yield tuned(of, tuning_set or ood_set)


def _are_tested(of: Trained, ood_set: str, setting: Setting) -> bool:
    at = [(setting.temperature, setting.epsilon)]
    return all(len(experiments.tested(of, images, at)) > 0 for images in (of.id_set, ood_set))
