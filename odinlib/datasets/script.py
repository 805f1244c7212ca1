"""What makes a data script of a function: its options, and errors in one line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from odinlib.datasets import resample
from odinlib.errors import UserError


class Command(click.Command):
    """A command whose user errors are one line on stderr and exit status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            click.echo(f"error: {error}", err=True)
            ctx.exit(1)


def command(
    filter: str | None = None, seed: bool = False, published: bool = False
) -> Callable[[Callable[..., None]], click.Command]:
    """Make a data script of a function: `--source`, and `--filter`, `--seed` and `--published` where it takes
    them.

    Args:
        filter: the default filter of a script that resamples.
        seed: whether the script draws at random.
        published: whether the paper's authors published what it makes.
    """

    def decorate(function: Callable[..., None]) -> click.Command:
        made = click.command(cls=Command)(function)
        if seed:
            made = click.option(
                "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of what is drawn."
            )(made)
        if published:
            help = "Take the archives that the paper's authors published."
            made = click.option("--published", is_flag=True, help=help)(made)
        if filter:
            choice = click.Choice(resample.FILTERS)
            made = click.option("--filter", type=choice, default=filter, show_default=True, help="For resizing.")(made)
        help = "Raw folder or archive on disk; else $ODINLIB_DATA/raw is searched, then the publisher asked."
        return click.option("--source", type=click.Path(path_type=Path), help=help)(made)

    return decorate
