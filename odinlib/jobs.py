"""Everything that the book needs of one network, in the order in which it is worth having: `odin respond`."""

import math
from collections.abc import Callable, Iterable, Iterator

from odinlib import distances, effects, experiments, odin
from odinlib.errors import Missing
from odinlib.profiles import Profile


def respond(profile: Profile, name: str, id_set: str) -> Iterator[str]:
    """Make every artefact that the book needs of one network, yielding a line for each as it is done.

    An OOD set whose images are not here is named, and left out from then on.

    Raises:
        Missing: the network, or its own set, cannot be had here.
    """
    own = (id_set, *profile.ood_sets[id_set])
    near = [ood for *of, ood in experiments.near_pairs(profile) if of == [name, id_set]]
    sets = list(dict.fromkeys((*own, *near)))
    first = id_set == profile.id_sets[0]
    across = first and name in profile.networks[:2]  # Appendix H: tuned on one set, tested on another
    leading = first and name == profile.networks[0]
    sizes = (profile.tuning_size_sets or profile.ood_sets[id_set]) if leading else ()  # Figure 15
    absent: set[str] = set()

    def each(what: str, wanted: Iterable[str], job: Callable[[str], object]) -> Iterator[str]:
        for images in wanted:
            if images in absent:
                continue
            try:
                job(images)
                yield f"{what} of {name} ({id_set}) on {images}"
            except Missing as reason:
                if images == id_set:
                    raise
                absent.add(images)
                yield f"without {images}: {reason}"

    def there(wanted: Iterable[str]) -> list[str]:
        return [images for images in wanted if images not in absent]

    def stated(images: str) -> None:
        """Scores of the test images at the paper's own settings, and at those of the figures."""
        chosen = experiments.paper_settings(profile, name, id_set)
        if first:
            chosen += [(profile.fixed_temperature, profile.headline_epsilon)]
        chosen += [(profile.fixed_temperature, profile.fixed_epsilon)]
        experiments.score_together(profile, name, id_set, images, chosen)
        for setting in chosen:
            experiments.test_scores(profile, name, id_set, images, *setting)

    def tuned(images: str) -> None:
        """Scores of the test images at every setting that a page asks for."""
        tuned_on = there(sets[1:]) if images == id_set or across else [images]
        chosen = [experiments.tune(profile, name, id_set, ood_set) for ood_set in tuned_on]
        if across:
            chosen += effects.rule_settings(profile, name, id_set, there(profile.ood_sets[id_set])).values()
        for ood_set in there(sizes):
            if images in (id_set, ood_set):
                chosen += effects.size_settings(profile, name, id_set, ood_set).values()
        if first:
            chosen += [
                experiments.headline_setting(profile),
                odin.Setting(profile.fixed_temperature, profile.fixed_epsilon, math.nan),
            ]
        settings = [(one.temperature, one.epsilon) for one in chosen]
        experiments.score_together(profile, name, id_set, images, settings)
        for setting in settings:
            experiments.test_scores(profile, name, id_set, images, *setting)

    yield from each("responses", sets, lambda images: experiments.responses(profile, name, id_set, images))
    if id_set == profile.grey_id_set:
        return
    yield from each("the paper's settings", sets, stated)
    yield from each("grid", sets, lambda images: experiments.grid(profile, name, id_set, images))
    if leading:
        largest = max(profile.tuning_sizes)

        def larger(images: str) -> None:
            experiments.grid(profile, name, id_set, images, holdout=largest)

        yield from each("larger grid", (id_set, *sizes), larger)
    yield from each("scores", sets, tuned)
    if first and name in profile.networks:
        yield from each("curves", own, lambda images: experiments.curve(profile, name, id_set, images))
    if leading:
        resampled = profile.resampled.get(id_set, ())
        yield from each("curves", resampled, lambda images: experiments.curve(profile, name, id_set, images))
    ood_sets = there(profile.ood_sets[id_set])
    if across and ood_sets:
        effects.transfer(profile, name, id_set, ood_sets)
        effects.tuning_rules(profile, name, id_set, ood_sets)
        if leading:
            effects.tuning_size_effect(profile, name, id_set, there(sizes))
        yield f"{name} ({id_set}) across tuning sets"
    if name == profile.networks[0]:
        yield from each("distance", own, lambda images: distances.distance(profile, id_set, images))
