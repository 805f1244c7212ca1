"""The work as a graph of jobs, each one `odin` command: train -> respond -> notebook -> book.

    snakemake --cores 2                                      what `make book` does
    snakemake --config profile=paper ...                     another profile
    snakemake --executor slurm --jobs 50 --config gpu=1 ...  the same on a cluster, with the executor's plugin installed

What the jobs of the first two kinds make lies under results/ and is load-or-compute: a job that runs again finds its
work done. A job runs again when its notebook, or a module of odinlib that it uses, has changed.
"""

import sys
from pathlib import Path

from odinlib import graph, profiles, record

PROFILE = profiles.get(config.get("profile", "demo"))
PAGES = sorted(path.stem for path in Path("notebooks").glob("*.ipynb"))
BIN = Path(sys.executable).parent  # of the environment, which need not be activated
ODIN = f"{sys.executable} -m odinlib.cli"
CHOICE = f"--profile {PROFILE.name} --network {{wildcards.network}} --id-set {{wildcards.id_set}}"
# That a job is done. Only what computes here has jobs: otherwise the record is what there is.
DONE = f"{PROFILE.folder}/.jobs/{{network}}+{{id_set}}"
NETWORKS = record.jobs(PROFILE) if PROFILE.compute else []
PROTOCOL = graph.reached(["odinlib.experiments"])
RECORD = [str(path) for path in [PROFILE.folder / "MANIFEST.json"] if path.exists()]

# One thread a job: two jobs on two cores are faster than one job on two threads. Their progress bars share a terminal,
# so each is drawn now and then only.
shell.prefix("export OMP_NUM_THREADS=${{OMP_NUM_THREADS:-1}} TQDM_MININTERVAL=${{TQDM_MININTERVAL:-20}}; ")


def needed(page):
    """What must be done before a page runs: pages that share results must not compute them at the same time."""
    sources = graph.modules(f"notebooks/{page}.ipynb")
    shares = any(path.endswith("experiments.py") for path in sources)
    stamps = [f"{DONE.format(network=network, id_set=id_set)}.responded" for network, id_set in NETWORKS]
    return sources + (stamps + RECORD if shares else [])


rule all:
    input:
        "book/_build/html/index.html",


rule train:
    input:
        PROTOCOL,
    output:
        touch(f"{DONE}.trained"),
    resources:
        gpu=int(config.get("gpu", 0)),
    message:
        "training {wildcards.network} on {wildcards.id_set}"
    shell:
        f"{ODIN} train {CHOICE}"


rule respond:
    input:
        PROTOCOL,
        f"{DONE}.trained",
    output:
        touch(f"{DONE}.responded"),
    resources:
        gpu=int(config.get("gpu", 0)),
    message:
        "asking {wildcards.network}, trained on {wildcards.id_set}, about all its sets"
    shell:
        f"{ODIN} respond {CHOICE}"


rule notebook:
    input:
        notebook="notebooks/{page}.ipynb",
        needed=lambda wanted: needed(wanted.page),
    output:
        "book/notebooks/{page}.ipynb",
    params:
        profile=lambda wanted: graph.profile_option(f"notebooks/{wanted.page}.ipynb", PROFILE.name),
    message:
        "running {input.notebook}"
    shell:
        "{ODIN} run -q {input.notebook} -o {output} {params.profile}"


rule book:
    input:
        expand("book/notebooks/{page}.ipynb", page=PAGES),
        "_config.yml",
        [str(path) for folder in ("book", "book/_ext", "book/_static") for path in Path(folder).glob("*.*")],
    output:
        "book/_build/html/index.html",
    threads: workflow.cores
    message:
        "rendering the book"
    shell:
        "{BIN}/jupyter-book build book --path-output book --config _config.yml -n -W --keep-going -q"
