"""The work as a graph of jobs, each one `odin` command: train -> respond -> notebook -> book.

    snakemake --cores 2                       what `make book` does
    snakemake --config profile=paper ...      another profile
    snakemake --executor slurm --jobs 50 ...  the same on a cluster (needs the executor's plugin)

Artefacts under results/ are load-or-compute and refuse what another configuration made, so a job that runs again
finds its work done. A job runs again when its notebook, or a module of odinlib that it uses, has changed.
"""

import sys
from pathlib import Path

from odinlib import graph

PROFILE = config.get("profile", "demo")
PAGES = sorted(path.stem for path in Path("notebooks").glob("*.ipynb"))
BIN = Path(sys.executable).parent  # of the environment, which need not be activated
ODIN = f"{sys.executable} -m odinlib.cli"

# One thread a job: two jobs on two cores are faster than one job on two threads.
shell.prefix("export OMP_NUM_THREADS=${{OMP_NUM_THREADS:-1}}; ")


rule all:
    input:
        "book/_build/html/index.html",


rule notebook:
    input:
        notebook="notebooks/{page}.ipynb",
        sources=lambda wanted: graph.modules(f"notebooks/{wanted.page}.ipynb"),
    output:
        "book/notebooks/{page}.ipynb",
    params:
        profile=lambda wanted: graph.profile_option(f"notebooks/{wanted.page}.ipynb", PROFILE),
    message:
        "running {input.notebook}"
    shell:
        "{ODIN} run -q {input.notebook} -o {output} {params.profile}"


rule book:
    input:
        expand("book/notebooks/{page}.ipynb", page=PAGES),
        "_config.yml",
        [str(path) for path in Path("book").glob("*.*")],
        [str(path) for path in Path("book").glob("_*/*.*") if "_build" not in path.parts],
    output:
        "book/_build/html/index.html",
    threads: workflow.cores
    message:
        "rendering the book"
    shell:
        "{BIN}/jupyter-book build book --path-output book --config _config.yml -n -W --keep-going -q"
