"""A profile small enough to run the whole protocol in a second, on embedded images."""

import sys

from odinlib import profiles
from odinlib.networks.train import Recipe

ADAM = {"weight_decay": 1e-5, "learning_rate": 0.003, "optimiser": "adam", "padding": 0, "flip": False}

TINY = profiles.Profile(
    name="tiny",
    title="for tests",
    networks=("mlp-16x1", "mlp-8x2"),
    id_sets=("digits",),
    ood_sets={"digits": ("strokes", "letters", "gaussian"), "shapes4": ("photos-crop", "uniform")},
    grey_network="mlp-12x1",
    grey_id_set="shapes4",
    left_out="letters",
    stands_for={"mlp-16x1": "densenet-bc-100-12", "digits": "cifar10", "strokes": "tinyimagenet-crop"},
    recipes={"mlp": Recipe(epochs=3, batch=64, **ADAM), "mlp-4x1": Recipe(epochs=60, batch=64, **ADAM)},
    temperatures=(1.0, 10.0, 1000.0),
    epsilons=(0.0, 0.02, 0.06),
    images=60,
    holdout=20,
    fixed_epsilon=0.02,
    headline_epsilon=0.02,
    tuning_sizes=(10, 30),
    resamples=20,
    device="cpu",
)

if __name__ == "__main__":  # `odin` with this profile: python tests/tiny.py train --profile tiny ...
    from odinlib import cli

    profiles.PROFILES["tiny"] = TINY
    sys.exit(cli.main(prog_name="odin"))
