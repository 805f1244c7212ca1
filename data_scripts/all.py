"""Every set whose raw files lie in one folder, as their publishers leave them."""

from pathlib import Path

import click

from odinlib.datasets import released
from odinlib.datasets.catalogue import PUBLISHED, RELEASED
from odinlib.datasets.prepared import ENTRIES, data_dir
from odinlib.datasets.script import command, load
from odinlib.errors import Missing, UserError

# The raw set that each script needs.
NEEDS = {
    "cifar10": "cifar10",
    "cifar10_bw": "cifar10",
    "cifar100": "cifar100",
    "cifar80_20": "cifar100",
    "mnist": "mnist",
    "omniglot": "omniglot",
    "notmnist": "notmnist",
    "tinyimagenet": "tinyimagenet",
    "lsun": "lsun",
    "isun": "isun",
}


@command()
@click.pass_context
def main(ctx: click.Context, source: Path | None) -> None:
    """Prepare every set whose raw files lie in --source, by default the data folder's raw/; fetch nothing.

    What the paper's authors released of Tiny ImageNet, and does not lie there, is made of its test images. What cannot
    be made of what is there is told, and does not stop the rest.
    """
    place = source or data_dir() / "raw"
    if not place.is_dir():
        raise UserError(f"{place} is no folder", expected="the folder above the raw sets")
    missing, failed = [], False
    for name, entry in RELEASED.items():
        try:
            if lies_in(place, entry.layouts):
                released.take([name], place)
            elif name in released.REMADE and lies_in(place, PUBLISHED["tinyimagenet"].layouts):
                released.remake(place, names=[name])
            else:
                missing += [found for found in (name, f"{name}-inner") if found in ENTRIES]
        except Missing as error:
            click.echo(f"without {name}: {error}", err=True)
        except UserError as error:
            click.echo(f"error: {error}", err=True)
            failed = True
    for script, key in NEEDS.items():
        if lies_in(place, PUBLISHED[key].layouts):
            command_of = load(Path(__file__).with_name(f"{script}.py")).main
            failed |= bool(command_of.main(["--source", str(place)], script, standalone_mode=False))
        else:
            missing += [name for name, entry in ENTRIES.items() if entry.script == script and not entry.released]
    if missing:
        click.echo(f"not in {place}: {', '.join(missing)}", err=True)
    if failed:
        ctx.exit(1)


def lies_in(place: Path, layouts: tuple[str, ...]) -> bool:
    """Whether a folder holds a raw set in one of its layouts."""
    return any((place / layout).exists() for layout in layouts)


if __name__ == "__main__":
    main()
