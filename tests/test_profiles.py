"""A profile is data; what is changed in it is checked at once, in one line."""

import dataclasses

import pytest

from odinlib import datasets, odin, profiles
from odinlib.errors import UserError
from odinlib.networks.train import PAPER_RECIPES


def refused(**changes) -> str:
    """The one line with which a change of the demo profile is refused."""
    with pytest.raises(UserError) as caught:
        profiles.configure("demo", **changes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", list(profiles.PROFILES))
def test_every_profile_passes_its_own_check(name):
    assert profiles.configure(name) == profiles.get(name)


def test_the_paper_profile_is_the_papers():
    paper = profiles.get("paper")
    assert paper.networks == ("densenet-bc-100-12", "wrn-28-10", "wrn-40-4")
    assert paper.temperatures == (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
    assert len(paper.epsilons) == 21 and paper.epsilons[-1] == pytest.approx(0.004)
    assert (paper.holdout, paper.images, paper.tpr) == (1000, None, 0.95)
    assert paper.recipe("wrn-40-4") == paper.recipe("wrn-28-10") == PAPER_RECIPES["wrn"]
    assert set(odin.PAPER_EPSILONS) <= set(paper.epsilons) and paper.fixed_epsilon in paper.epsilons


def test_settings_that_are_drawn_lie_on_the_grid():
    for profile in profiles.PROFILES.values():
        assert profile.fixed_temperature in profile.temperatures
        assert 1.0 in profile.temperatures and 0.0 in profile.epsilons


def test_roles_are_of_networks_and_sets_in_the_profile():
    for profile in profiles.PROFILES.values():
        known = {*profile.networks, *profile.id_sets, profile.grey_id_set, profile.left_out}
        known |= {name for sets in profile.ood_sets.values() for name in sets}
        others = set(profile.stands_for) - known  # of which another training's record tells
        assert all(profile.paper_name(name) in known and datasets.title(name) for name in others)
        assert not others or profile.name == "paper"
        if len(profile.id_sets) > 2:  # the third one's held-back classes
            assert profile.left_out in profile.ood_sets[profile.id_sets[2]]


def test_pictures_are_of_embedded_images():
    from odinlib.datasets import embedded

    for name in profiles.PROFILES:
        shown = profiles.with_pictures(profiles.configure(name, seed=3))
        assert embedded.known(shown.id_sets[0]) and shown.compute and shown.seed == 3
    assert profiles.with_pictures(profiles.get("demo")) is profiles.get("demo")
    assert "pictures is 'photos'" in refused(pictures="photos")


def test_resampled_sets_are_those_of_the_tables_made_by_every_kind_of_filter():
    from odinlib.datasets import resample

    having = [profile for profile in profiles.PROFILES.values() if profile.resampled]
    assert {profile.name for profile in having} >= {"demo", "paper"}
    for profile in having:
        (sets,) = (profile.resampled[id_set] for id_set in profile.id_sets if id_set in profile.resampled)
        first = profile.id_sets[0]
        assert sets[0] in (*profile.ood_sets[first], *profile.beside.get(first, ()))
        filters = {datasets.variant(name)[1] for name in sets}
        assert "nearest" in filters and filters & set(resample.ANTIALIASED)
        changed = profiles.configure(profile.name, resampled={profile.id_sets[0]: list(sets[:2])})
        assert tuple(changed.resampled[profile.id_sets[0]]) == sets[:2]


def test_changes_are_taken_and_none_is_no_change():
    changed = profiles.configure("demo", temperatures=[1, 1000], holdout=50, split=None, images=None)
    assert changed.temperatures == (1.0, 1000.0)
    demo = profiles.get("demo")
    assert dataclasses.replace(changed, temperatures=demo.temperatures, holdout=demo.holdout) == demo


def test_a_plain_list_of_sets_holds_for_every_id_set():
    changed = profiles.configure("demo", ood_sets=["uniform", "letters"])
    assert {changed.ood_sets[s] for s in changed.id_sets} == {("uniform", "letters")}
    assert changed.ood_sets[changed.grey_id_set] == ("uniform", "letters")
    kept = profiles.configure("demo", ood_sets=["photos-crop"])
    assert kept.ood_sets[kept.grey_id_set] == profiles.get("demo").ood_sets["digits"]
    promoted = profiles.configure("demo", id_sets=["digits"], ood_sets=["letters", "shapes20"])
    assert promoted.ood_sets["digits"] == ("letters", "shapes20")


def test_a_variant_of_a_set_is_known_before_it_is_made(tmp_path, monkeypatch):
    monkeypatch.setenv("ODINLIB_DATA", str(tmp_path))
    changed = profiles.configure("paper", ood_sets=["tinyimagenet-resize-box"])
    assert changed.ood_sets["cifar10"] == ("tinyimagenet-resize-box",)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"temprature": 1}, "did you mean 'temperatures'?"),
        ({"networks": ["resnet-18"]}, "network is 'resnet-18'"),
        ({"networks": ["wrn-9-1"]}, "the nearest is wrn-10-1"),
        ({"grey_network": "mlp"}, "network is 'mlp'"),
        ({"id_sets": ["shape10"]}, "did you mean 'shapes10'?"),
        ({"ood_sets": ["photo-crop"]}, "did you mean 'photos-crop'?"),
        ({"ood_sets": ["tinyimagenet-resize-bxo"]}, "data set is 'tinyimagenet-resize-bxo'"),
        ({"ood_sets": ["shapes10"]}, "shapes10 is both in- and out-of-distribution; choose another OOD set"),
        ({"ood_sets": []}, "shapes10 has no OOD sets"),
        ({"id_sets": ["shapes4"]}, "shapes4 has no OOD sets; expected an entry for 'shapes4' in ood_sets"),
        ({"split": "last"}, "split is 'last'; expected one of random, first"),
        ({"temperatures": []}, "the grid is empty"),
        ({"temperatures": [1, -1]}, "temperature is -1; expected a number above 0"),
        ({"temperatures": [0]}, "temperature is 0"),
        ({"epsilons": [-0.1]}, "epsilon is -0.1; expected a number at least 0"),
        ({"epsilons": [float("nan")]}, "epsilon is nan"),
        ({"tpr": 0}, "tpr is 0"),
        ({"tpr": 1.5}, "tpr is 1.5; expected a number above 0 and at most 1"),
        ({"holdout": 0}, "holdout is 0"),
        ({"holdout": 10.5}, "holdout is 10.5; expected a whole number"),
        ({"images": 100, "holdout": 100}, "images is 100 and holdout is 100; expected more images than are held out"),
        ({"curve_images": 0}, "curve_images is 0"),
        ({"tuning_sizes": [0, 10]}, "tuning size is 0"),
        ({"tuning_sizes": []}, "tuning_sizes is empty"),
        ({"fixed_temperature": float("inf")}, "fixed_temperature is inf"),
        ({"fixed_epsilon": -1}, "fixed_epsilon is -1"),
        ({"headline_epsilon": -1}, "headline_epsilon is -1"),
        ({"resamples": 1}, "resamples is 1"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": "0"}, "seed is '0'"),
        ({"networks": []}, "networks is empty"),
        ({"id_sets": []}, "id_sets is empty"),
        ({"networks": "wrn-10-1"}, "networks is 'wrn-10-1'; expected a list"),
        ({"resampled": {"shapes10": "isun"}}, "expected a mapping of names to lists of names"),
        ({"resampled": {"shapes10": []}}, "resampled holds []"),
        ({"resampled": {"shapes10": ["photos-resize", "photos-resize-bxo"]}}, "data set is 'photos-resize-bxo'"),
        ({"resampled": {"shapes10": ["photos-crop"]}}, "photos-crop is not resampled"),
        (
            {"resampled": {"shapes10": ["isun-box", "mixed-resize"]}},
            "isun-box and mixed-resize are not variants of one",
        ),
        (
            {"resampled": {"shapes10": ["isun", "isun-nearest"]}},
            "two of isun, isun-nearest are made by the same filter",
        ),
    ],
)
def test_a_mistake_is_told_in_one_line(changes, told):
    assert told in refused(**changes)


def test_an_unknown_profile():
    with pytest.raises(UserError, match=r"profile is 'dmeo'; expected one of demo, paper; did you mean 'demo'"):
        profiles.get("dmeo")


def test_a_network_of_no_known_family_has_no_recipe():
    bare = dataclasses.replace(profiles.get("demo"), recipes={"wrn": PAPER_RECIPES["wrn"]})
    assert bare.recipe("wrn-40-4") == PAPER_RECIPES["wrn"]
    with pytest.raises(UserError, match="has no recipe for 'mlp-8x1'"):
        bare.recipe("mlp-8x1")


def test_a_page_without_the_word_for_a_list_means_one_entry_of_it():
    assert profiles.of_page({"temperature": 37, "epsilon": 0, "ood_set": None, "seed": 1}) == {
        **{"temperatures": [37], "epsilons": [0], "seed": 1}  # None leaves a field as it is
    }


def test_the_changes_of_a_profile_are_those_of_its_question():
    assert profiles.changes(profiles.get("paper")) == {}
    changed = profiles.configure("paper", temperatures=[37], seed=2, device="cpu", resamples=10, networks=["wrn-40-4"])
    assert profiles.changes(changed) == {"temperatures": (37.0,), "seed": 2, "networks": ("wrn-40-4",)}


def test_a_training_is_called_by_whose_it_is_or_by_its_seed_and_recipe():
    demo, paper = profiles.get("demo"), profiles.get("paper")
    assert demo.training("wrn-10-2", "shapes10") == "seed0"
    assert profiles.configure("demo", seed=3).training("wrn-10-2", "shapes10") == "seed3"
    assert paper.training("densenet-bc-100-12", "cifar10") == "authors"
    other = paper.trained("densenet-bc-100-12", "cifar10", "third-party")
    assert other.key == "densenet-bc-100-12_cifar10_third-party"
    # A record that is only read is not another one because other images of it are drawn.
    assert profiles.configure("paper", seed=3).training("wrn-28-10", "cifar10") == "seed0"
    recipes = {**demo.recipes, "wrn": dataclasses.replace(demo.recipes["wrn"], epochs=1)}
    own = profiles.configure("demo", recipes=recipes).training("wrn-10-2", "shapes10")
    assert own.startswith("seed0-") and len(own) == len("seed0-") + 8


def test_results_go_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("ODINLIB_RESULTS", str(tmp_path))
    assert profiles.get("demo").folder == tmp_path / "demo"
    monkeypatch.delenv("ODINLIB_RESULTS")
    assert profiles.get("paper").folder.parts[-2:] == ("results", "paper")


def test_data_lie_beside_results_wherever_one_stands(tmp_path, monkeypatch):
    """Both follow the checkout, and the environment where it says so."""
    from odinlib.datasets import prepared

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ODINLIB_RESULTS", raising=False)
    monkeypatch.delenv("ODINLIB_DATA", raising=False)
    assert prepared.data_dir().parent == profiles.get("demo").folder.parent.parent
    assert prepared.data_dir().is_absolute()
    monkeypatch.setenv("ODINLIB_DATA", "elsewhere")
    assert prepared.data_dir().resolve() == tmp_path / "elsewhere"
