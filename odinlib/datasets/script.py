"""What makes a data script of a function: its options, and errors in one line."""

import functools
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import click

from odinlib.datasets import jpeg, resample
from odinlib.edge import Command
from odinlib.errors import UserError

_KEPT = "sets that are whole are kept, and what has been fetched; the same command goes on"


def command(
    filter: str | None = None, seed: bool = False, released: bool = False
) -> Callable[[Callable[..., None]], click.Command]:
    """Make a data script of a function: `--source`, and `--filter` and `--seed` where it takes them.

    Args:
        filter: the default filter of a script that resamples.
        seed: whether the script draws at random.
        released: whether the paper's authors released what it makes: then it takes `--published`, and `--decoder`,
            `--jpeg` and `--border`, of which the last two are refused with the first.
    """

    def decorate(function: Callable[..., None]) -> click.Command:
        made: click.Command = click.command(cls=Command, kept=_KEPT)(_as_released(function) if released else function)
        if seed:
            made = click.option(
                "--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Of what is drawn."
            )(made)
        if released:
            help = "Put black pixels around each image that is made here, so many on each side."
            made = click.option("--border", type=click.IntRange(0, 999), default=0, help=help)(made)
            help = "Put each image that is made here through a JPEG of this quality (colour 4:2:0)."
            made = click.option("--jpeg", type=click.IntRange(1, 100), help=help)(made)
            help = "Which libjpeg reads and writes JPEGs: IJG's, by default for --published, or libjpeg-turbo."
            made = click.option("--decoder", type=click.Choice(jpeg.LIBRARIES), help=help)(made)
            help = "Take the sets that the paper's authors released, as they are."
            made = click.option("--published", is_flag=True, help=help)(made)
        if filter:
            choice = click.Choice(resample.FILTERS)
            made = click.option("--filter", type=choice, default=filter, show_default=True, help="For resizing.")(made)
        help = "Raw folder or archive on disk; else $ODINLIB_DATA/raw is searched, then the publisher asked."
        return click.option("--source", type=click.Path(path_type=Path), help=help)(made)

    return decorate


def load(path: Path) -> ModuleType:
    """The data script at `path` as a module of a private name: scripts are called `all` or `mnist`, as others are."""
    name = f"_odinlib_data_script_{path.stem}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        sys.modules[name] = module
    return sys.modules[name]


def _as_released(function: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(function)
    def checked(**given: Any) -> None:
        if (given["published"] or given.get("rebuild")) and (given["jpeg"] or given["border"]):
            raise UserError("--jpeg and --border change images", expected="released sets as they are")
        function(**given)

    return checked
