"""One list says what is made of a network: `respond` makes it, `status` counts it, and what is missing names itself."""

import dataclasses
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from odinlib import cli, experiments, profiles, record, store, trained
from odinlib.errors import Missing, UserError
from odinlib.measure import distances, effects, mechanism, scorecard
from odinlib.record import Item

NET, ID = "mlp-16x1", "digits"
KEY = f"{NET}_{ID}_seed0"
TINY = Path(__file__).parent / "tiny.py"


@pytest.fixture
def recorded(tiny, tiny_record):
    """The record of the tiny profile's first network."""
    shutil.copytree(tiny_record, tiny.folder)
    return tiny.trained(NET, ID)


def files(profile):
    return sorted(path.relative_to(profile.folder).as_posix() for path in profile.folder.rglob("*.npz"))


# --- The plan ---------------------------------------------------------------------------------------------------------


def test_a_plan_is_made_without_making_anything_else(tiny):
    items = record.plan(tiny.trained(NET, ID))
    assert not tiny.folder.exists()
    assert {item.kind for item in items} == {"responses", "curve", "grid", "scores", "distance"}
    assert Item("scores", "strokes") in items  # at whatever its grid will choose
    assert str(Item("scores", "strokes")) == "scores of strokes at the tuned settings"
    assert str(Item("scores", "strokes", (10.0, 0.02))) == "scores of strokes at T = 10, epsilon = 0.02"
    assert str(Item("grid", "strokes", count=30)) == "grid of strokes, 30 held out"


def test_all_that_is_planned_is_recorded_after_respond_and_nothing_else(recorded):
    items = record.plan(recorded)
    assert items and all(record.is_recorded(recorded, item) for item in items)
    assert not any(item.kind == "scores" and item.setting is None for item in items)
    before = files(recorded.profile)
    assert before and len(list(record.respond(recorded))) == len(items)
    assert files(recorded.profile) == before


def test_respond_records_all_that_a_page_reads(recorded, monkeypatch):
    of, profile = recorded.among(compute=False), dataclasses.replace(recorded.profile, compute=False)
    ood_sets = profile.ood_sets[ID]
    for ood_set in ood_sets:
        experiments.detection(of, ood_set)
        distances.distance(profile, ID, ood_set)
        experiments.predictions(of, ood_set)
        mechanism.gains(of, ood_set, 1.0)
    effects.transfer(of, ood_sets)
    effects.tuning_rules(of, ood_sets)
    effects.tuning_size_effect(of, ood_sets)
    effects.threshold_effect(of, ood_sets)
    effects.accuracy_by_score(of)
    mechanism.quantities(of, [ID, *ood_sets])
    mechanism.on_curves(of, mechanism.quantities(of, [ID]))
    alone = dataclasses.replace(profile, networks=(NET,))
    card = scorecard.scorecard(alone).set_index("id")
    assert (card.verdict != scorecard.UNDECIDED).sum() > 15


def test_respond_tells_each_item_by_its_network(recorded):
    lines = list(record.respond(recorded))
    assert f"responses of strokes by {KEY}" in lines and f"grid of digits, 30 held out by {KEY}" in lines
    assert any(line.startswith("scores of strokes at T = ") for line in lines)


def test_only_some_sets_or_settings(tiny):
    of = tiny.trained(NET, ID)
    lines = list(record.respond(of, ["strokes"], [(7.0, 0.005), (3.0, 0.005)]))
    assert lines == [f"scores of strokes at T = {t}, epsilon = 0.005 by {KEY}" for t in (7, 3)]
    assert files(tiny) == [f"scores/{KEY}/strokes_T{t}_e0.005.npz" for t in (3, 7)]
    lines = list(record.respond(of, ["letters"]))
    assert f"curve of letters by {KEY}" in lines and not any("strokes" in line or ID + " " in line for line in lines)


def test_a_set_outside_the_plan_is_made_when_it_is_named(tiny):
    of = tiny.trained(NET, ID)
    assert f"grid of uniform by {KEY}" in list(record.respond(of, ["uniform"]))
    with pytest.raises(UserError, match=r"data set is 'unifrom'.*did you mean 'uniform'"):
        list(record.respond(of, ["unifrom"]))


def test_respond_goes_on_without_a_set_that_is_not_here(tiny):
    more = dataclasses.replace(tiny, ood_sets={**tiny.ood_sets, ID: ("isun", "strokes")})
    lines = list(record.respond(more.trained(NET, ID)))
    left_out = [line for line in lines if line.startswith("without")]
    assert len(left_out) == 1 and left_out[0].startswith("without isun: isun is not prepared")
    assert any(line.startswith("scores of strokes at T = ") for line in lines)
    alone = dataclasses.replace(tiny, ood_sets={**tiny.ood_sets, ID: ("isun",)})
    assert any(line.startswith("without isun") for line in record.respond(alone.trained(NET, ID)))


def test_respond_without_its_own_images_says_so(tiny):
    foreign = dataclasses.replace(tiny, id_sets=("cifar10",), ood_sets={**tiny.ood_sets, "cifar10": ("strokes",)})
    with pytest.raises(Missing, match="cifar10 is not prepared"):
        list(record.respond(foreign.trained(NET, "cifar10")))


def test_the_jobs_are_the_networks_of_the_profile_the_grey_one_last(tiny):
    assert [(of.network, of.id_set) for of in record.jobs(tiny)] == [
        (NET, ID),
        ("mlp-8x2", ID),
        ("mlp-12x1", "shapes4"),
    ]


# --- Status -----------------------------------------------------------------------------------------------------------


def cells(profile):
    rows, missing = record.status(profile)
    header = rows[0]
    return {(row[0], row[1], name): row[i] for row in rows[1:] for i, name in enumerate(header) if i > 1}, missing


def test_status_tells_recorded_from_computable(recorded):
    found, missing = cells(recorded.profile)
    assert {found[ID, s, NET] for s in ("(weights)", ID, "strokes", "letters", "gaussian")} == {"recorded"}
    assert found[ID, "strokes", "mlp-8x2"] == found["shapes4", "photos-crop", "mlp-12x1"] == "computable"
    assert found[ID, "strokes", "mlp-12x1"] == found["shapes4", "uniform", NET] == "-"
    assert missing == {"data": [], "weights": []}


def file_of(profile, kind):
    """Some file of strokes of each kind."""
    where = {
        "responses": f"responses/{KEY}/strokes.npz",
        "grids": f"grids/{KEY}/strokes.npz",
        "larger grids": f"grids/{KEY}/strokes_20-30.npz",
        "curves": f"curves/{KEY}/strokes.npz",
        "distances": f"distances/{ID}/strokes.npz",
    }
    if kind == "scores":
        return sorted((profile.folder / "scores" / KEY).glob("strokes_*.npz"))[0]
    return profile.folder / where[kind]


@pytest.mark.parametrize("kind", ["responses", "grids", "larger grids", "curves", "scores", "distances"])
def test_a_file_that_is_gone_shows_in_status_and_comes_back(recorded, kind):
    path = file_of(recorded.profile, kind)
    before = path.read_bytes()
    path.unlink()
    found, _ = cells(recorded.profile)
    count, total = map(int, re.fullmatch(r"(\d+) of (\d+), computable", found[ID, "strokes", NET]).groups())
    assert 0 < count < total
    others = {found[ID, images, NET] for images in (ID, "letters", "gaussian")}
    assert "recorded" in others
    list(record.respond(recorded))
    assert cells(recorded.profile)[0][ID, "strokes", NET] == "recorded"
    with np.load(path) as again:
        path.with_suffix(".old").write_bytes(before)
        with np.load(path.with_suffix(".old")) as old:
            for name in old.files:
                assert name == "artefact" or np.array_equal(old[name], again[name])


def test_any_file_that_is_gone_shows(recorded):
    """Every single one."""
    for path in files(recorded.profile):
        where = recorded.profile.folder / path
        content = where.read_bytes()
        where.unlink()
        items = record.plan(recorded)
        assert not all(record.is_recorded(recorded, item) for item in items), path
        where.write_bytes(content)
    assert all(record.is_recorded(recorded, item) for item in record.plan(recorded))


def test_responses_to_fewer_images_are_not_all_of_them(tiny):
    few = dataclasses.replace(tiny, images=40).trained(NET, ID)
    store.responses(few, "strokes")
    assert record.is_recorded(few, Item("responses", "strokes"))
    assert not record.is_recorded(tiny.trained(NET, ID), Item("responses", "strokes"))


def test_status_says_what_is_missing(tiny):
    profile = dataclasses.replace(
        tiny,
        id_sets=("cifar10", "digits"),
        ood_sets={**tiny.ood_sets, "cifar10": ("isun", "uniform", "photos-crop")},
        trainings={f"{NET}_digits": "third-party"},
    )
    found, missing = cells(profile)
    assert found["cifar10", "isun", NET] == found["cifar10", "uniform", NET] == "no data, no weights"
    assert found["digits", "(weights)", NET] == "no weights" and found["digits", "strokes", NET] == "no weights"
    assert found["digits", "strokes", "mlp-8x2"] == "computable"
    assert found["cifar10", "digits", NET] == "no data, no weights" and found["cifar10", "digits", "mlp-8x2"] == "-"
    assert missing["data"] == ["cifar10", "isun"]
    assert missing["weights"] == [f"{NET} on cifar10", "mlp-8x2 on cifar10", f"{NET} on digits"]


def test_status_counts_the_curves_of_resampled_sets(tiny):
    profile = dataclasses.replace(tiny, resampled={ID: ("isun-box", "isun-lanczos")})
    found, missing = cells(profile)
    assert found[ID, "isun-box", NET] == "no data" and found[ID, "isun-lanczos", "mlp-8x2"] == "-"
    assert missing["data"] == ["isun-box", "isun-lanczos"]
    embedded = dataclasses.replace(tiny, resampled={ID: ("strokes", "digits")})  # two sets of one shape
    profile = dataclasses.replace(embedded, ood_sets={**tiny.ood_sets, ID: ("letters",)})
    of = profile.trained(NET, ID)
    assert Item("curve", "strokes") in record.plan(of) and cells(profile)[0][ID, "strokes", NET] == "computable"
    experiments.curve(of, "strokes")
    assert record.is_recorded(of, Item("curve", "strokes"))


# --- What is missing names the command that makes it ------------------------------------------------------------------


def follow(told):
    """Do what the command that a message names does."""
    command = re.search(r"`odin (.*?)` makes", told)
    assert command, told
    done = CliRunner().invoke(cli.main, shlex.split(command[1]))
    assert done.exit_code == 0, (done.stderr, done.exception)


def follow_as_a_process(profile, told):
    """Run the command that a message names, as a user would."""
    command = re.search(r"`odin (.*?)` makes", told)
    assert command, told
    own = {"ODINLIB_RESULTS": str(profile.folder.parent), "ODINLIB_DATA": str(profile.folder.parent / "data")}
    words = [sys.executable, str(TINY), *shlex.split(command[1])]
    done = subprocess.run(words, env={**os.environ, **own}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def follow_until_there(ask, steps):
    """What `ask` gives, after at most so many commands, each naming something else than the one before."""
    told = []
    for _ in range(steps):
        try:
            return ask()
        except Missing as reason:
            assert str(reason) not in told, "the command did not make what it names"
            told.append(str(reason))
            follow(told[-1])
    return ask()


PAIR = (ID, "strokes")
QUESTIONS = {
    "scores at a setting nobody recorded": (
        {"temperatures": (37.0,), "epsilons": (0.0125,)},
        lambda of: experiments.detection(of, "strokes").value,
    ),
    "scores by hand": ({}, lambda of: experiments.test_scores(of, "strokes", 5.0, 0.012345678)),
    "responses of another set": ({}, lambda of: store.responses(of, "uniform").logits),
    "a finer grid": ({"epsilons": (0.0, 0.01, 0.02)}, lambda of: experiments.tune(of, "strokes").fpr),
    "another temperature on it": ({"temperatures": (1.0, 50.0)}, lambda of: experiments.grid(of, "strokes")),
    "more held out": ({"holdout": 40}, lambda of: experiments.grid(of, "strokes")),
    "curves at another temperature": ({"fixed_temperature": 500.0}, lambda of: experiments.curve(of, "strokes")),
    "curves with other magnitudes": (
        {"epsilons": (0.0, 0.03)},
        lambda of: effects.epsilon_effect(of, ["strokes"], 1.0).fpr,
    ),
    "classes": ({"epsilons": (0.0, 0.03)}, lambda of: experiments.predictions(of, "strokes")),
    "a larger tuning set": (
        {"tuning_sizes": (10, 40)},
        lambda of: effects.tuning_size_effect(of, ["strokes"]).fpr,
    ),
    "the threshold of another setting": (
        {"fixed_epsilon": 0.01},
        lambda of: effects.threshold_effect(of, ["strokes"])[2],
    ),
    "more images": ({"images": 80}, lambda of: experiments.test_scores(of, "strokes", 1000.0, 0.01)),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_command_that_is_named_makes_what_is_missing(recorded, tmp_path, monkeypatch, question):
    changes, ask = QUESTIONS[question]
    of = recorded.among(compute=False, **changes)
    with pytest.raises(Missing) as caught:
        ask(of)
    assert "\n" not in str(caught.value)
    there = follow_until_there(lambda: ask(of), steps=4)

    monkeypatch.setenv("ODINLIB_RESULTS", str(tmp_path / "at-once"))
    at_once = ask(recorded.among(**changes))
    assert len(np.atleast_1d(there)) and np.isfinite(np.asarray(there)).all()
    if "images" not in changes:  # then what is recorded decides which are taken
        assert np.allclose(there, at_once, rtol=1e-5, atol=1e-5)


def test_what_is_missing_of_a_network_is_trained_by_the_command_it_names(tiny):
    of = tiny.trained("mlp-8x2", ID).among(compute=False)
    with pytest.raises(Missing) as caught:
        trained.card(of)
    follow_as_a_process(tiny, str(caught.value))
    assert trained.card(of)["accuracy"] > 0.3


def test_the_command_names_the_training_and_all_that_was_changed(tiny):
    of = tiny.trained(NET, ID, "authors").among(
        compute=False, seed=3, split="first", networks=("mlp-8x2",), tuning_size_sets=("letters",)
    )
    told = str(store.missing(of, "strokes", "scores", at=(1000.0, 1 / 3)))
    assert "--training authors" in told and f"--at 1000 {1 / 3!r}" in told
    assert "-p split first" in told and "-p seed 3" in told
    assert """-p networks '["mlp-8x2"]'""" in told and """-p tuning_size_sets '["letters"]'""" in told


def test_an_id_set_that_the_profile_does_not_have_is_named_with_its_sets(tiny):
    other = dataclasses.replace(
        tiny, id_sets=("shapes10",), ood_sets={**tiny.ood_sets, "shapes10": ("photos-crop",)}, compute=False
    )
    with pytest.raises(Missing) as caught:
        store.responses(other.trained(NET, "shapes10"), "photos-crop")
    assert """-p id_sets '["shapes10"]'""" in str(caught.value)
    assert """-p ood_sets '["photos-crop"]'""" in str(caught.value)
    follow(str(caught.value))
    assert len(store.responses(other.trained(NET, "shapes10"), "photos-crop").logits) == 60


def test_profiles_of_the_tests_are_not_those_of_the_package():
    assert "tiny" not in profiles.PROFILES
