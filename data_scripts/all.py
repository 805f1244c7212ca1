"""Every set whose raw files lie in one folder, as their publishers leave them."""

import importlib
from pathlib import Path

import click

from odinlib.datasets.catalogue import PUBLISHED
from odinlib.datasets.prepared import ENTRIES, data_dir
from odinlib.datasets.raw import present
from odinlib.datasets.script import command
from odinlib.errors import UserError

# What each script needs one of.
NEEDS = {
    "cifar10": ["cifar10"],
    "cifar10_bw": ["cifar10"],
    "cifar100": ["cifar100"],
    "cifar80_20": ["cifar100"],
    "mnist": ["mnist"],
    "omniglot": ["omniglot"],
    "notmnist": ["notmnist"],
    "tinyimagenet": ["tinyimagenet"],
    "lsun": ["lsun"],
    "isun": ["isun"],
    "scenes": ["scenes-lsun", "scenes-isun"],
}


@command()
@click.pass_context
def main(ctx: click.Context, source: Path | None) -> None:
    """Prepare every set whose raw files lie in --source, by default the data folder's raw/; fetch nothing."""
    place = source or data_dir() / "raw"
    if not place.is_dir():
        raise UserError(f"{place} is no folder", expected="the folder above the raw sets")
    missing = []
    for script, needs in NEEDS.items():
        if any(present(PUBLISHED[key], place) for key in needs):
            arguments = ["--source", str(place)]
            if status := importlib.import_module(script).main.main(arguments, script, standalone_mode=False):
                ctx.exit(status)
        else:
            missing += [name for name, entry in ENTRIES.items() if entry.script == script]
    if missing:
        click.echo(f"not in {place}: {', '.join(missing)}", err=True)


if __name__ == "__main__":
    main()
