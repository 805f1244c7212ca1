"""What is made of a network, as data: the one list that `respond` makes, `status` counts and the graph of jobs follows.

In the order in which it is worth having: responses; scores at the settings that the paper and its figures name; grids;
scores at the settings that tuning chooses; curves; what only one network is asked for; distances.
"""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from odinlib import experiments, odin, store
from odinlib.errors import Missing
from odinlib.measure import distances, effects
from odinlib.profiles import Profile, Trained
from odinlib.store import Setting

KINDS = ("responses", "scores", "grid", "curve", "distance")


@dataclass(frozen=True)
class Item:
    """One artefact of a network about one set of images."""

    kind: str  # one of `KINDS`
    images: str
    setting: Setting | None = None  # of scores; None where a grid that is not there yet would choose it
    count: int | None = None  # of a grid: held-out images, where they are more than the profile's

    def __str__(self) -> str:
        at = f" at T = {self.setting[0]:g}, epsilon = {self.setting[1]:g}" if self.setting else ""
        at = " at the tuned settings" if self.kind == "scores" and not self.setting else at
        return f"{self.kind} of {self.images}{at}" + (f", {self.count:,} held out" if self.count else "")


def jobs(profile: Profile) -> list[Trained]:
    """Every network of a profile, in the paper's order; `own-network` takes the first one of the demo."""
    return experiments.networks(profile)


def sets(of: Trained) -> list[str]:
    """The sets that a network is asked about: its own first, the paper's out-of-distribution sets, the near one."""
    near = [ood for *key, ood in experiments.near_pairs(of.profile) if key == [of.network, of.id_set]]
    return list(dict.fromkeys((of.id_set, *of.profile.ood_sets[of.id_set], *near)))


def resampled(of: Trained) -> list[str]:
    """Further variants of a set of which only the curves are drawn."""
    profile = of.profile
    first = of.network == profile.networks[0]
    return [s for s in profile.resampled.get(of.id_set, ()) if first and s not in sets(of)]


def beside(of: Trained) -> list[str]:
    """Further sets, of no table of the paper, that only the first network is asked about, at the stated settings."""
    asked = of.profile.beside.get(of.id_set, ())
    return [s for s in asked if of.network == of.profile.networks[0] and s not in sets(of)]


def plan(of: Trained, leave_out: frozenset[str] = frozenset()) -> list[Item]:
    """Every artefact that the book needs of a network.

    Settings that tuning chooses are read off the grids; where those are not recorded, one item without a setting
    stands for them.

    Args:
        of: the network.
        leave_out: sets whose images are not to be had; nothing is planned of them, nor chosen on them.
    """
    of = of.among(compute=False, exactly=True)  # making a plan makes nothing else
    profile = of.profile
    own = [s for s in sets(of) if s not in leave_out]
    if of.repeats:
        return _repetition(of, own)
    first, leading = of.id_set == profile.id_sets[0], _leads(of)
    further = [s for s in beside(of) if s not in leave_out]
    items = [Item("responses", s) for s in (*own, *further)]
    if of.id_set != profile.grey_id_set:
        curves = [Item("curve", s) for s in (*own, *resampled(of)) if first and s not in leave_out and _in_table(of, s)]
        whole = profile.curve_images is None  # then they hold the scores at the settings that the figures name
        stated = [Item("scores", s, setting) for s in (*own, *further) for setting in stated_settings(of)]
        items += [*curves, *stated] if whole else stated
        items += [Item("grid", s) for s in own]
        if leading:
            largest = max(profile.tuning_sizes)
            sizes = [s for s in _sizes(of) if s not in leave_out]
            items += [Item("grid", s, count=largest) for s in (of.id_set, *sizes) if largest > profile.holdout]
        items += _tuned(of, own)
        items += [] if whole else curves
    if of.network == profile.networks[0]:
        items += [Item("distance", s) for s in own if _in_table(of, s)]
    return list(dict.fromkeys(items))


def _repetition(of: Trained, own: Sequence[str]) -> list[Item]:
    """Of the profile's own training from another seed: what tables need to tell how far trainings vary."""
    grids = [Item("grid", s) for s in own if of.id_set != of.profile.grey_id_set]
    tuned = experiments.gather(lambda s: experiments.tune(of, s), own[1:])
    settings = {s: [tuned[s]] if s in tuned else [] for s in own[1:]}
    settings = {of.id_set: list(tuned.values()), **settings}
    with_baseline = {images: [experiments.BASELINE, *found] for images, found in settings.items()}
    return [*grids, *_scores(with_baseline, (of.id_set, *tuned))]


def _scores(settings: Mapping[str, Sequence[odin.Setting]], chosen: Sequence[str]) -> list[Item]:
    """Scores of each set at its settings; those not among `chosen` wait for their own grid to choose one more."""
    items = []
    for images, found in settings.items():
        pairs = sorted({(one.temperature, one.epsilon) for one in found})
        waiting = images not in chosen
        items += [Item("scores", images, pair) for pair in pairs] + [Item("scores", images)] * waiting
    return items


def stated_settings(of: Trained) -> list[Setting]:
    """The settings that the paper names for a network: those of Tables 4 to 9, and those of its figures."""
    profile = of.profile
    found = [s for s in experiments.paper_settings(of) if profile.paper_name(of.network) == of.network]
    if of.id_set == profile.id_sets[0]:
        found.append((profile.fixed_temperature, profile.headline_epsilon))
        found.append((profile.fixed_temperature, profile.fixed_epsilon))
    return [setting for setting in dict.fromkeys(found) if setting[1] > 0]


def _in_table(of: Trained, images: str) -> bool:
    return images in (of.id_set, *of.profile.ood_sets[of.id_set], *of.profile.resampled.get(of.id_set, ()))


def _leads(of: Trained) -> bool:
    return of.id_set == of.profile.id_sets[0] and of.network == of.profile.networks[0]


def _sizes(of: Trained) -> tuple[str, ...]:
    """The sets of Figure 15."""
    return tuple(of.profile.tuning_size_sets or of.profile.ood_sets[of.id_set]) if _leads(of) else ()


def _tuned(of: Trained, own: list[str]) -> list[Item]:
    """Scores of the test images of each set at every setting that tuning chooses for a page."""
    profile, id_set = of.profile, of.id_set
    tuned = experiments.gather(lambda s: experiments.tune(of, s), own[1:])
    chosen = {ood_set: [setting] for ood_set, setting in tuned.items()}
    settings = {s: list(chosen.get(s, [])) for s in own}
    across = id_set == profile.id_sets[0] and of.network in profile.networks[:2]
    if across:  # Appendix H: tuned on one set, tested on another
        tabled = [s for s in profile.ood_sets[id_set] if s in chosen]
        everywhere = [setting for one in chosen.values() for setting in one]
        with contextlib.suppress(Missing):  # the rules need every grid, also where there is one setting to tune among
            everywhere += effects.rule_settings(of, tabled).values() if tabled else []
        settings = {s: list(everywhere) for s in own}
    settings[id_set] = [setting for one in settings.values() for setting in one]
    by_size = experiments.gather(lambda s: effects.size_settings(of, s), [s for s in _sizes(of) if s in own])
    for ood_set, sizes in by_size.items():
        settings[ood_set] += sizes.values()
        settings[id_set] += sizes.values()
    moved = {images: [one for one in found if one.epsilon > 0] for images, found in settings.items()}
    return _scores(moved, (id_set, *chosen))


# --- Item by item -----------------------------------------------------------------------------------------------------


def is_recorded(of: Trained, item: Item) -> bool:
    """Whether an artefact is there: the files that answer its question, whatever they are called."""
    reading = of.among(compute=False, exactly=True)
    try:
        if item.kind == "distance":
            return distances.is_recorded(reading.profile, of.id_set, item.images)
        if item.kind == "responses":
            return bool(store.has_responses(reading, item.images).all())
        if item.kind == "curve":
            return bool(experiments.predictions(reading, item.images).shape[-1])
        if item.kind == "grid":
            return bool(experiments.grid(reading, item.images, item.count).shape[-1])
        test = experiments.tested(reading, item.images)
        return item.setting is not None and bool(store.available(reading, item.images, [item.setting])[test].all())
    except Missing:
        return False


def make(of: Trained, items: Sequence[Item]) -> None:
    """Record artefacts of one kind about one set, unless they are there; scores share what passes can be shared.

    Raises:
        Missing: the network or the images are not to be had here.
    """
    settings = [item.setting for item in items if item.setting is not None]
    if settings:
        experiments.record_scores(of, items[0].images, settings)
        return
    for item in items:
        _make(of, item)


def _make(of: Trained, item: Item) -> None:
    if item.kind == "distance":
        distances.distance(of.profile, of.id_set, item.images)
        with contextlib.suppress(Missing):  # most images have no other part
            distances.distance(of.profile, of.id_set, item.images, part="corner")
    elif item.kind == "responses":
        store.clean(of, item.images)
    elif item.kind == "curve":
        experiments.curve_images(of, item.images)
    elif item.kind == "grid":
        experiments.grid(of, item.images, item.count)
