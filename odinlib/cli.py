"""`odin`: the command line. Every command is thin; what it does lives in the module it calls."""

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import odinlib
from odinlib import artefacts
from odinlib.edge import Command, Program
from odinlib.errors import Missing, UserError, check_choice, one_line, short

if TYPE_CHECKING:
    from odinlib.profiles import Profile, Trained


class Group(Program, click.Group):
    """A group whose commands, and whose groups' commands, end in one line."""

    command_class = Command
    group_class = type


@click.group(cls=Group)
@click.version_option(getattr(odinlib, "__version__", None), package_name="odinlib", prog_name="odin")
def main() -> None:
    """Out-of-distribution detection with ODIN, and the paper's experiments."""


def _say(told: object, err: bool = False) -> None:
    """Print lines without what a terminal would obey: names of files and headers are other people's."""
    click.echo("\n".join(one_line(line) for line in str(told).split("\n")), err=err)


# --- data ---------------------------------------------------------------------------------------------------


@main.group()
def data() -> None:
    """The image sets: what is there, making what is not, looking at them."""


@data.command("status")
def data_status() -> None:
    """Show which sets are prepared, and the command that makes each of the others."""
    from odinlib.datasets import prepared

    found, missing = prepared.status()
    _say(f"{prepared.data_dir()}: {len(found)} files")
    if found:
        _say(_table(["set", "images", "size", "filter", "seed", "made", "from"], found))
    if missing:
        _say(_table(["missing", "make it with"], missing))


@data.command("prepare", context_settings={"ignore_unknown_options": True})
@click.argument("name")
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def data_prepare(ctx: click.Context, name: str, options: tuple[str, ...]) -> None:
    """Prepare the set NAME, or `all`.

    OPTIONS are its script's: --source, --filter, --seed, --published, --decoder, --jpeg, --border, --rebuild.
    """
    from odinlib.datasets import prepared
    from odinlib.datasets import script as scripting

    scripts = Path(__file__).resolve().parent.parent / "data_scripts"
    if not scripts.is_dir():
        raise UserError("the data scripts are not beside odinlib", remedy="run from a checkout of the project")
    if name not in ("all", "images_folder"):
        if not prepared.known(name):
            check_choice("data set", name, (*prepared.ENTRIES, "all", "images_folder"))
        name, *variant = prepared.script(name)
        options = (*variant, *options)
    script = scripting.load(scripts / f"{name}.py")
    ctx.exit(script.main.main(list(options), f"odin data prepare {name}", standalone_mode=False) or 0)


@data.command("sheet", kept="no sheet is written; run it again")
@click.argument("name")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The PNG to write.")
@click.option("--split", type=click.Choice(["test", "train"]), default="test", show_default=True)
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Which images are shown.")
def data_sheet(name: str, output: Path, split: str, seed: int) -> None:
    """Write a contact sheet of the set NAME: 200 images drawn at random."""
    from odinlib import datasets
    from odinlib.datasets import prepare

    shape = (32, 32, 3) if name in datasets.NOISE else None
    count = 200 if name in datasets.NOISE else None
    images = datasets.load(name, split, count=count, seed=seed, shape=shape).images
    _say(prepare.contact_sheet(images, output, seed=seed))


# --- pages and the book -----------------------------------------------------------------------------------------------


@main.command(kept="nothing is written but results that were whole; run it again")
@click.argument("page", type=click.Path(path_type=Path))
@click.option("-p", "--parameter", nargs=2, multiple=True, metavar="NAME VALUE", help="Lists as '[a, b]'.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The executed notebook.  [default: build/runs/]")
@click.option("-q", "--quiet", is_flag=True, help="No progress bar.")
def run(page: Path, parameter: tuple[tuple[str, str], ...], output: Path | None, quiet: bool) -> None:
    """Run the notebook PAGE with papermill, checking its parameters first."""
    from odinlib.book import execution, parameters

    output = output or Path("build/runs") / page.name
    given = parameters.of_command_line(page, parameter)
    execution.execute(page, output, given, progress=not quiet)
    _say(output)


@main.command(kept="pages and results that are whole are kept; the same command goes on")
@click.option("--only", help="`record`: the pages from the record alone; `demo`: those computed here alone.")
@click.option("--cores", type=click.IntRange(1), help="Jobs at a time.  [default: as many as there are cores]")
@click.option("--pdf", is_flag=True, help="Print the record's pages into one PDF instead; needs Chromium.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
def book(only: str | None, cores: int | None, pdf: bool, dry_run: bool) -> None:
    """Make the book: the record's pages, and beside them the demo's, computed on this machine; see the Snakefile."""
    from odinlib.book import graph

    kind = "both" if only is None else check_choice("book", only, ("record", "demo"))
    if pdf and kind == "demo":
        raise UserError("the PDF is of the record's pages", remedy="leave out --only demo")
    first = graph.make_book(kind, cores, pdf=pdf, dry_run=dry_run)
    if not dry_run:
        _say(first)


# --- networks, responses and the record -------------------------------------------------------------------------------


class Numbers(click.ParamType):
    """Numbers separated by commas."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        try:
            return tuple(float(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not numbers separated by commas", param, ctx)


def _profile(default: str) -> Callable[[Any], Any]:
    return click.option("--profile", default=default, show_default=True, help="demo or paper.")


def _chosen(command: Any) -> Any:
    """The options that choose one network of a profile, or all."""
    for option in (
        click.option("--device", help="auto, cuda, mps or cpu."),
        click.option("--all", "everything", is_flag=True, help="Every network of the profile, in order."),
        click.option("--training", help="Whose: authors, third-party, or our own by its seed, such as seed0."),
        click.option("--id-set", help="What it is trained on, such as cifar10."),
        click.option("--network", help="Such as densenet-bc-100-12."),
        _profile("demo"),
    ):
        command = option(command)
    return command


def _each(
    profile: "Profile",
    chosen: tuple[str | None, str | None, str | None],
    everything: bool,
    work: Callable[["Trained"], Iterable[str]],
) -> None:
    """Print the lines of `work` for the network chosen, or for all of them, going on where one cannot be had."""
    from odinlib import networks, record

    network, id_set, training = chosen
    if everything and any(chosen):
        raise click.UsageError("--all takes every network; leave out --network, --id-set and --training")
    if not everything and not (network and id_set):
        raise click.UsageError("give --network and --id-set, or --all")
    jobs = record.jobs(profile)
    if network and id_set:
        profile.recipe(networks.check_name(network))
        jobs = [profile.trained(network, check_choice("ID set", id_set, profile.ood_sets), training)]
    missing = []
    for of in jobs:
        try:
            for line in work(of):
                _say(line)
        except Missing as reason:
            if not everything:
                raise
            missing.append(f"{of.network} on {of.id_set}")
            _say(f"without {missing[-1]}: {reason}", err=True)
    if missing:
        raise Missing(f"could not do {', '.join(missing)}", remedy="`odin status` says what they need")


@main.command(kept="whole epochs are kept; the same command goes on after the last one")
@_chosen
@click.option(
    "--seed", type=click.IntRange(0, 2**63 - 1), help="Of the weights and the batches; another one gets its own file."
)
@click.option("--seeds", type=click.IntRange(1, 1000), metavar="N", help="Train N times, from the seeds 0 to N - 1.")
@click.option("--epochs", type=int, help="In place of the recipe's; the learning rate falls at the same parts of them.")
@click.option("--minutes", type=float, help="As many epochs as fit into this time here, and at most the recipe's.")
@click.option("--precision", help="float32, tf32 or bfloat16.  [default: the recipe's, float32]")
@click.option("--compile/--no-compile", default=None, help="By torch.compile: worth its wait on a GPU.")
def train(
    profile: str,
    everything: bool,
    device: str | None,
    seed: int | None,
    seeds: int | None,
    epochs: int | None,
    minutes: float | None,
    precision: str | None,
    compile: bool | None,
    **chosen: str | None,
) -> None:
    """Train a network, unless it is there. Stopped, it continues after its last whole epoch.

    A network that is trained otherwise than the profile says has another name, such as seed0-1b2c3d4e, by which `odin
    respond --training` asks it; its card has the recipe.
    """
    from odinlib import profiles, trained

    if seeds is not None and (seed is not None or chosen["training"]):
        raise click.UsageError("--seeds says which trainings; leave out --seed and --training")
    wanted = [seed] if seeds is None else range(seeds)
    runs = [profiles.configure(profile, compute=True, device=device, seed=one) for one in wanted]

    if minutes is not None and (epochs is not None or seeds is not None):
        raise click.UsageError("--minutes says how many epochs one training has; leave out --epochs and --seeds")
    other = {"epochs": epochs, "precision": precision, "compile": compile}
    otherwise = minutes is not None or any(value is not None for value in other.values())
    if otherwise and chosen["training"]:
        raise click.UsageError("--training names a training, and the other options make one: leave one of both out")

    def work(of: "Trained") -> Iterator[str]:
        if otherwise:
            of = trained.by(of, minutes, **other)
        if minutes is not None:
            yield f"{of.profile.recipe(of.network).epochs} epochs, which --epochs goes on with"
        trained.train(of)
        accuracy = trained.card(of).get("accuracy")
        told = "" if accuracy is None else f": test accuracy {100 * accuracy:.2f} %"
        yield f"{trained.path(of)}{told}"

    for run in runs:
        _each(run, (chosen["network"], chosen["id_set"], chosen["training"]), everything, work)


@main.command(kept="what is finished is kept, to a shard of 250 images; the same command goes on")
@_chosen
@click.option("--seeds", type=click.IntRange(1, 1000), metavar="N", help="Our trainings from the seeds 0 to N - 1.")
@click.option("--set", "sets", multiple=True, metavar="SET", help="This set only; more than once for several.")
@click.option("--at", nargs=2, type=float, multiple=True, metavar="T EPSILON", help="Scores at this setting only.")
@click.option("--precision", help="float32, tf32, bfloat16 or float16.  [default: the profile's choice, or float32]")
@click.option("--kernels", help="exact, or on CUDA fastest.  [default: exact in float32, fastest in the others]")
@click.option("-p", "--parameter", nargs=2, multiple=True, metavar="NAME VALUE", help="As of a page: -p holdout 500.")
def respond(
    profile: str,
    everything: bool,
    device: str | None,
    seeds: int | None,
    precision: str | None,
    kernels: str | None,
    sets: tuple[str, ...],
    at: tuple[tuple[float, float], ...],
    parameter: tuple[tuple[str, str], ...],
    **chosen: str | None,
) -> None:
    """Record all that the book needs of a network's answers to its sets. Stopped, it continues.

    Answers in another precision than float32 lie beside those in float32, and neither is taken for the other. tf32
    rounds the factors of products on CUDA; bfloat16 and float16 are of passes without gradients. The first and the last
    layer stay in float32.
    """
    from odinlib import profiles, record
    from odinlib.book import parameters

    given = profiles.of_page({name: parameters.parse(value) for name, value in parameter})
    if given.get("compute", True) is not True:
        raise UserError(f"compute is {short(given['compute'])}", expected="True: this command computes")
    options = {"device": device, "precision": precision, "kernels": kernels}
    given |= {name: value for name, value in options.items() if value is not None}
    run = profiles.configure(profile, **{**given, "compute": True})
    if seeds is not None and (everything or chosen["training"]):
        raise click.UsageError("--seeds says which trainings of one network; leave out --all and --training")
    for training in [chosen["training"]] if seeds is None else [f"seed{one}" for one in range(seeds)]:
        names = chosen["network"], chosen["id_set"], training
        _each(run, names, everything, lambda of: record.respond(of, sets or None, at))


@main.command("import-weights", kept="nothing is brought in; run it again")
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--network", required=True, help="Its architecture, such as densenet-bc-100-12.")
@click.option("--id-set", required=True, help="What it was trained on.")
@click.option("--classes", type=click.IntRange(2), required=True, help="How many it tells apart.")
@click.option("--mean", type=Numbers(), required=True, help="Per channel, of pixels in [0, 1]: 0.4914,0.4822,0.4465.")
@click.option("--std", type=Numbers(), required=True, help="Likewise.")
@click.option("--size", type=click.IntRange(1, 4096), default=32, show_default=True, help="Of its images, in pixels.")
@click.option("--note", help="Where it comes from, for its card.")
@click.option("--training", help="Whose it is: authors or third-party.  [default: the profile's choice]")
@click.option("--place", help="Of several weights in the file, what stands before the names of those to take.")
@_profile("paper")
def import_weights(profile: str, source: Path, network: str, id_set: str, **options: Any) -> None:
    """Bring the checkpoint SOURCE, a state dict or a pickled module, into a profile; nothing in it is run."""
    from odinlib import profiles, record

    path, card = record.import_weights(profiles.get(profile), source, network, id_set, **options)
    accuracy = card.get("accuracy")
    told = card.get("accuracy_note", "accuracy not measured")
    _say(f"{path}: " + (told if accuracy is None else f"test accuracy {100 * accuracy:.2f} %"))
    if card.get("also_at"):
        also = ", ".join(map(repr, card["also_at"]))
        _say(f"taken from {card.get('place', '')!r}; such weights are also at {also} (--place)")


# --- A network and images of one's own --------------------------------------------------------------------------------


class Sizes(click.ParamType):
    """One number, or a height and a width with an x between them."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | tuple[int, int]:
        parts = str(value).lower().split("x")
        if not all(part.isascii() and part.isdecimal() and len(part) < 10 for part in parts) or len(parts) > 2:
            self.fail(f"{value!r} is no size: 224, or 224x320", param, ctx)
        return int(parts[0]) if len(parts) == 1 else (int(parts[0]), int(parts[1]))


@main.command(kept="nothing was written; run it again")
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--network", type=click.Path(path_type=Path), required=True, help="File of weights or of a network.")
@click.option("--familiar", type=click.Path(path_type=Path), help="Folder of images like those it was trained on.")
@click.option("--foreign", type=click.Path(path_type=Path), help="Folder of unlike images, to choose T and epsilon on.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The file to write; else it is printed.")
@click.option("--json", "as_json", is_flag=True, help="JSON, with the detector, in place of CSV.")
@click.option("--save", type=click.Path(path_type=Path), help="Keep the fitted detector in this file.")
@click.option("--detector", type=click.Path(path_type=Path), help="A kept one, in place of --familiar.")
@click.option("--architecture", help="Of weights alone: resnet18, timm:NAME, or FILE.py:NAME.")
@click.option("--place", help="Of several weights in the file, what stands before the names of those to take.")
@click.option("--trust", is_flag=True, help="Run the program in the file, if it is one.")
@click.option("--mean", type=Numbers(), help="Per channel in [0, 1], if it does not normalise by itself.")
@click.option("--std", type=Numbers(), help="Likewise.")
@click.option("--size", type=Sizes(), help="Height and width that images are brought to: 32, or 32x48.")
@click.option("--resize", type=Sizes(), help="In its place, the length of the shorter side, proportions kept.")
@click.option("--crop", type=Sizes(), help="What is then cut out of the middle.")
@click.option("--filter", help="For resizing.  [default: bilinear-antialias]")
@click.option("--channels", type=click.IntRange(1), help="1 or 3, where the network does not tell.")
@click.option("--temperature", type=float, default=1000.0, show_default=True)
@click.option("--epsilon", type=float, default=0.0014, show_default=True)
@click.option("--tpr", type=float, default=0.95, show_default=True, help="Share of familiar images to accept.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the halves of --familiar.")
@click.option("--batch", type=click.IntRange(1), help="Images per pass.")
@click.option("--logits", help="Where the network gives several outputs, the name of the logits.")
@click.option("--binary", is_flag=True, help="The network has one logit.")
@click.option("--device", default="auto", show_default=True, help="auto, cuda, mps or cpu.")
@click.option("-q", "--quiet", is_flag=True, help="No progress, no warnings, no summary.")
def score(images: tuple[Path, ...], network: Path, output: Path | None, as_json: bool, **options: Any) -> None:
    """Tell of each of the IMAGES, files or folders, whether it is like those that a network was trained on.

    One half of the familiar images sets the threshold; what it accepts of the other is told. A row is file, class,
    score and verdict (familiar or foreign). The exit status is 0 if every image was read, else 1.
    """
    from odinlib import judging

    progress = not options["quiet"] and sys.stderr.isatty()
    if (options["familiar"] is None) == (options["detector"] is None):
        raise UserError("neither or both of --familiar and --detector are given", expected="one of the two")
    with _doubts_in_lines(options["quiet"]):
        given = {name: options[name] for name in ("architecture", "place", "mean", "std", "device")}
        found, wanted = judging.network_of(network, trusted=options["trust"], **given)
        if options["detector"] is not None:
            fitted = judging.load(options["detector"], found)
        else:
            reading = {name: options[name] for name in ("size", "resize", "crop", "filter", "channels")}
            settings = {name: options[name] for name in ("temperature", "epsilon", "tpr", "seed", "batch", "binary")}
            settings |= {"output": options["logits"], "progress": progress}
            reading = judging.reading(wanted, reading)
            fitted = judging.fit(found, options["familiar"], options["foreign"], reading=reading, **settings)
        if options["save"] is not None:
            judging.save(fitted, options["save"])
        rows, left_out = judging.judge(fitted, images, progress)
    text = judging.as_json(fitted, rows, left_out) if as_json else judging.as_csv(rows)
    if output is None:
        click.echo(text, nl=False)
    else:
        with artefacts.write_atomically(output) as file:
            file.write(text.encode())
    if not options["quiet"]:
        for line in judging.summary(fitted, rows, left_out):
            _say(line, err=True)
    if unread := [row for row in rows if row.reason]:
        what = f"{len(unread)} of {len(rows)} images could not be read, {unread[0].file} ({unread[0].reason}) the first"
        raise UserError(what, remedy="see the rows")


@contextlib.contextmanager
def _doubts_in_lines(quiet: bool) -> Iterator[None]:
    """While this lasts, what is doubtful is a line on stderr, told once."""
    from odinlib.own import Doubt

    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if quiet else "once", Doubt)
        before = warnings.showwarning

        def show(message: Any, category: type[Warning], *arguments: Any, **options: Any) -> None:
            if issubclass(category, Doubt):
                _say(f"warning: {message}", err=True)
            else:
                before(message, category, *arguments, **options)

        warnings.showwarning = show
        yield


@main.command()
@_profile("paper")
@click.option("--coverage", is_flag=True, help="Of the numbers that the paper prints, table by table.")
def status(profile: str, coverage: bool) -> None:
    """Show what is recorded, what can be computed here, and what is missing for the rest."""
    from odinlib import profiles, record
    from odinlib.networks import engines

    if coverage:
        cells = record.coverage(profiles.get(profile))
        found = record.counts(cells)
        rows = [[str(table), *map(str, row), str(sum(row))] for table, *row in found.itertuples()]
        _say(_table(["table", *found.columns, "printed"], rows))
        _say(f"{found.recorded['all']:,} of {len(cells):,} printed numbers have one of ours beside them")
        return
    (header, *rows), missing = record.status(profiles.get(profile))
    _say(_table(header, rows))
    if missing["data"]:
        _say(f"no data: {', '.join(missing['data'])} (`odin data status` says how to make them)")
    if missing["weights"]:
        _say(f"no weights: {', '.join(missing['weights'])} (`odin train` with the images, or `odin import-weights`)")
    if any("computable" in cell for row in rows for cell in row):
        _say(f"computable: `odin respond --profile {profile} --network NETWORK --id-set SET`; training takes hours")
    _say(f"engine: {engines.in_use()}")


@main.command(kept="the seal is the one that was there; run it again")
@_profile("paper")
def seal(profile: str) -> None:
    """Write the record's tables and its manifest, MANIFEST.json."""
    from odinlib import profiles, record

    for line in record.seal(profiles.get(profile)):
        _say(line)


@main.command()
@_profile("paper")
def verify(profile: str) -> None:
    """Check the record: every file, and every table against what the recorded responses and scores give."""
    from odinlib import profiles, record

    chosen = profiles.get(profile)
    problems = record.verify(chosen)
    for problem in problems:
        _say(problem)
    if problems:
        raise UserError(f"{chosen.folder} is not as it should be", expected=f"none of the {len(problems)} lines above")
    _say(f"{chosen.folder} is as it was sealed, and its tables follow from it")


@main.command(kept="what is removed is removed; the same command goes on")
@_profile("demo")
@click.option("--data", is_flag=True, help="Of the prepared sets instead of the profile's results.")
def clean(profile: str, data: bool) -> None:
    """Remove what was begun and nobody is at: partial files, shards, checkpoints. They would be begun anew."""
    from odinlib import profiles
    from odinlib.datasets import prepared

    folder = prepared.data_dir() if data else profiles.get(profile).folder
    removed = 0
    for path in artefacts.clear(folder):
        _say(f"removed {path}")
        removed += 1
    if not removed:
        _say(f"nothing was left in {folder}")


@main.group("record")
def record_group() -> None:
    """The record's files themselves."""


@record_group.command("migrate", kept="files that are done are kept; the same command goes on")
@_profile("paper")
def record_migrate(profile: str) -> None:
    """Write the headers of an older record anew; its arrays keep their bytes. `odin seal` follows."""
    from odinlib import profiles, record

    count = 0
    for line in record.migrate(profiles.get(profile)):
        _say(line)
        count += 1
    _say(f"{count} files were written anew" if count else "nothing to migrate")


def _table(header: list[str], rows: list[list[str]]) -> str:
    """Columns of text, two spaces apart."""
    lines = [[one_line(cell) for cell in line] for line in (header, *rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    padded = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    return "\n".join("  ".join(line).rstrip() for line in padded)


if __name__ == "__main__":
    main(prog_name="odin")
