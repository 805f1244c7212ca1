"""The work as a graph of jobs, each one `odin` command: train -> respond -> notebook -> book.

    snakemake --cores 2                                        what `make book` does
    snakemake --cores 2 --config kind=record ...               the record's pages alone; kind=demo: the demo's alone
    snakemake pdf --cores 2                                    the record's pages as a PDF
    snakemake jobs --config profile=paper gpu=1 ...            train and respond: what the record is made of
    snakemake --executor slurm --jobs 50 --config gpu=1 ...    the same on a cluster, with the executor's plugin installed

What the jobs of the first two kinds make lies under results/ and is load-or-compute: a job that runs again finds its
work done. A job runs again when the contents or the time of its notebook, or of a module of odinlib that it uses, have
changed. One Snakemake works here at a time, and another waits for it; options are in profiles/default/.
"""

import shlex
import sys
from pathlib import Path

from odinlib import profiles, record
from odinlib.book import graph, layout

KIND = config.get("kind", "both")
PAGES = sorted(path.stem for path in Path("notebooks").glob("*.ipynb"))
PYTHON = shlex.quote(sys.executable)  # of the environment, which need not be activated
ODIN = f"{PYTHON} -m odinlib.cli"
CHOICE = "--profile {wildcards.profile} --network {wildcards.network} --id-set {wildcards.id_set}"
JUPYTER_BOOK = f"{PYTHON} -c 'from jupyter_book.cli.main import main; main()'"
RESULTS = str(profiles.get("demo").folder.parent).replace("{", "{{").replace("}", "}}")
DONE = f"{RESULTS}/{{profile}}/.jobs/{{network}}+{{id_set}}"  # that a job is done
# What a job is made of. Snakemake goes by times, and a copy may be newer than it says; so each job has, as a parameter,
# one digest of the contents of these.
TRAINING, RESPONDING = graph.reached(["odinlib.trained"]), graph.reached(["odinlib.record.respond"])
MAKES = ("layout", "citation", "contents", "explorer", "folding", "library", "printed")
FRAME = ["_config.yml", "CITATION.cff", "CHANGELOG.md", *(f"odinlib/book/{name}.py" for name in MAKES)]
for folder in ("book", "book/_ext", "book/_explorer", "book/_static"):
    FRAME += [str(path) for path in sorted(Path(folder).glob("*.*"))]
GPU = int(config.get("gpu", 0))
CLUSTER = {"mem_mb": 4000, "runtime": 720}  # what a job asks for where such things are asked: MB, and minutes

if workflow.is_main_process and not workflow.dryrun:
    graph.hold_the_lock()

# One thread a job: two jobs on two cores are faster than one job on two threads. Their progress bars share a terminal,
# so each is drawn now and then only; that all was stopped is said once, by whoever started this.
SHARED = "OMP_NUM_THREADS=${{OMP_NUM_THREADS:-1}} TQDM_MININTERVAL=${{TQDM_MININTERVAL:-20}} ODINLIB_QUIET_STOP=1"
shell.prefix(f"export {SHARED}; ")


wildcard_constraints:
    profile="[^/]+",
    page="[^/]+",


def done(profile, what):
    """That all networks of a profile are `trained`, or have `responded`."""
    jobs = record.jobs(profiles.get(profile))
    return [f"{DONE}.{what}".format(profile=profile, network=of.network, id_set=of.id_set) for of in jobs]


def needed(page, profile):
    """What must be there before a page runs: pages that share results must not compute them at the same time."""
    source = f"notebooks/{page}.ipynb"
    sources, told = graph.modules(source), graph.needs(source)
    if "benchmarks" in told:
        sources += [str(path) for path in Path("benchmarks/results").glob("*.json")]
    if "record" in told:
        sources += [str(path) for path in [profiles.get("paper").folder / "MANIFEST.json"] if path.exists()]
    if "network" in told:
        sources += done("demo", "trained")[:1]
    if profile not in profiles.PROFILES or not any(path.endswith("experiments.py") for path in sources):
        return sources
    chosen, manifest = profiles.get(profile), profiles.get(profile).folder / "MANIFEST.json"
    if chosen.compute:
        return sources + done(profile, "responded")
    # The record is what there is, and for pictures of images the first network of the profile that gives them.
    pictures = chosen.pictures if "pictures" in told else None
    return sources + [str(manifest)] * manifest.exists() + (done(pictures, "responded")[:1] if pictures else [])


rule all:
    input:
        "book/_build/html/index.html",


rule jobs:
    input:
        done(config.get("profile", "demo"), "responded"),


rule train:
    input:
        TRAINING,
    output:
        touch(f"{DONE}.trained"),
    resources:
        gpu=GPU,
        **CLUSTER,
    params:
        contents=lambda wanted: graph.contents(TRAINING),
    message:
        "training {wildcards.network} on {wildcards.id_set}"
    shell:
        f"{ODIN} train {CHOICE}"


rule respond:
    input:
        RESPONDING,
        f"{DONE}.trained",
    output:
        touch(f"{DONE}.responded"),
    resources:
        gpu=GPU,
        **CLUSTER,
    params:
        contents=lambda wanted: graph.contents(RESPONDING),
    message:
        "asking {wildcards.network}, trained on {wildcards.id_set}, about all its sets"
    shell:
        f"{ODIN} respond {CHOICE}"


rule notebook:
    input:
        notebook="notebooks/{page}.ipynb",
        needed=lambda wanted: needed(wanted.page, wanted.profile),
    output:
        "build/pages/{profile}/{page}.ipynb",
    resources:
        **CLUSTER,
    params:
        profile=lambda wanted: graph.profile_option(f"notebooks/{wanted.page}.ipynb", wanted.profile),
        contents=lambda wanted: graph.contents([f"notebooks/{wanted.page}.ipynb", *needed(wanted.page, wanted.profile)]),
    message:
        "running {input.notebook} ({wildcards.profile})"
    shell:
        "{ODIN} run -q {input.notebook:q} -o {output:q} {params.profile}"


rule book:
    input:
        layout.pages(KIND, PAGES),
        FRAME,
    output:
        "book/_build/html/index.html",
    params:
        kind=KIND,
        contents=lambda wanted: graph.contents(FRAME),
    message:
        "rendering the book"
    shell:
        "toc=$({PYTHON} -m odinlib.book.layout {params.kind}) && {JUPYTER_BOOK} build book --path-output book"
        ' --config _config.yml --toc "$toc" -n -W --keep-going -q'


rule pdf:
    input:
        layout.pages("record", PAGES),
        FRAME,
    output:
        "book/_build/odin.pdf",
    params:
        contents=lambda wanted: graph.contents(FRAME),
    message:
        "printing the book"
    shell:
        "{PYTHON} -m odinlib.book.printed"
