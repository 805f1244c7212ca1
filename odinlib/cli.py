"""`odin`: the command line. Every command is thin; what it does lives in the module it calls."""

import importlib
import sys
from pathlib import Path
from typing import Any

import click

import odinlib
from odinlib.errors import UserError, check_choice


class Group(click.Group):
    """A group whose commands tell a user's mistake in one line on stderr, with exit status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            click.echo(f"error: {error}", err=True)
            ctx.exit(1)


@click.group(cls=Group)
@click.version_option(getattr(odinlib, "__version__", None), package_name="odinlib", prog_name="odin")
def main() -> None:
    """Out-of-distribution detection with ODIN, and the paper's experiments."""


# --- data ---------------------------------------------------------------------------------------------------


@main.group()
def data() -> None:
    """The image sets: what is there, making what is not, looking at them."""


@data.command("status")
def data_status() -> None:
    """Show which sets are prepared, and the command that makes each of the others."""
    from odinlib.datasets import prepared

    found, missing = prepared.status()
    click.echo(f"{prepared.data_dir()}: {len(found)} files")
    if found:
        click.echo(_table(["set", "images", "size", "filter", "seed", "made", "from"], found))
    if missing:
        click.echo(_table(["missing", "make it with"], missing))


@data.command("prepare", context_settings={"ignore_unknown_options": True})
@click.argument("name")
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def data_prepare(ctx: click.Context, name: str, options: tuple[str, ...]) -> None:
    """Prepare the set NAME, or `all`; OPTIONS are its script's: --source, --filter, --seed, --published."""
    from odinlib.datasets import prepared

    scripts = Path(__file__).resolve().parent.parent / "data_scripts"
    if not scripts.is_dir():
        raise UserError("the data scripts are not beside odinlib", remedy="run from a checkout of the project")
    if name not in ("all", "images_folder"):
        if not prepared.known(name):
            check_choice("data set", name, (*prepared.ENTRIES, "all", "images_folder"))
        name, *variant = prepared.script(name)
        options = (*variant, *options)
    sys.path.insert(0, str(scripts))
    script = importlib.import_module(name)
    ctx.exit(script.main.main(list(options), f"odin data prepare {name}", standalone_mode=False) or 0)


@data.command("sheet")
@click.argument("name")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The PNG to write.")
@click.option("--split", type=click.Choice(["test", "train"]), default="test", show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Which images are shown.")
def data_sheet(name: str, output: Path, split: str, seed: int) -> None:
    """Write a contact sheet of the set NAME: 200 images drawn at random."""
    from odinlib import datasets
    from odinlib.datasets import prepare

    shape = (32, 32, 3) if name in datasets.NOISE else None
    count = 200 if name in datasets.NOISE else None
    images = datasets.load(name, split, count=count, seed=seed, shape=shape).images
    click.echo(prepare.contact_sheet(images, output, seed=seed))


# --- pages and the book -----------------------------------------------------------------------------------------------


@main.command()
@click.argument("page", type=click.Path(path_type=Path))
@click.option("-p", "--parameter", nargs=2, multiple=True, metavar="NAME VALUE", help="Lists as '[a, b]'.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The executed notebook.  [default: build/runs/]")
@click.option("-q", "--quiet", is_flag=True, help="No progress bar.")
def run(page: Path, parameter: tuple[tuple[str, str], ...], output: Path | None, quiet: bool) -> None:
    """Run the notebook PAGE with papermill, checking its parameters first."""
    from odinlib import notebook

    output = output or Path("build/runs") / page.name
    given = {name: notebook.parse(value) for name, value in parameter}
    notebook.execute(page, output, given, progress=not quiet)
    click.echo(output)


@main.command()
@click.option("--profile", default="demo", show_default=True, help="What the pages are made from.")
@click.option("--cores", type=click.IntRange(1), help="Jobs at a time.  [default: as many as there are cores]")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
def book(profile: str, cores: int | None, dry_run: bool) -> None:
    """Make the book, running again only the pages that changed; see the Snakefile."""
    import subprocess

    root = Path(__file__).resolve().parent.parent
    if not (root / "Snakefile").is_file():
        raise UserError("the Snakefile is not beside odinlib", remedy="run it from a checkout of the project")
    check_choice("profile", profile, ("demo", "paper"))
    command = ["snakemake", "--cores", str(cores or "all"), "--config", f"profile={profile}", "--quiet", "rules"]
    done = subprocess.run([sys.executable, "-m", *command, *(["--dry-run"] if dry_run else [])], cwd=root, check=False)
    if done.returncode:
        raise UserError("the book was not made", remedy="the job that failed is named above")
    if not dry_run:
        click.echo(root / "book" / "_build" / "html" / "index.html")


def _table(header: list[str], rows: list[list[str]]) -> str:
    """Columns of text, two spaces apart."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    padded = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    return "\n".join("  ".join(line).rstrip() for line in padded)


if __name__ == "__main__":
    main(prog_name="odin")
