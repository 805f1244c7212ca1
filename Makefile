# make book    the book, from nothing        make test    every check, from nothing
# Both set up .venv first. The second call installs nothing and recomputes nothing that is still valid.

PYTHON ?= python3
CORES ?=
RAW ?=

BIN := .venv/bin
READY := .venv/ready
# Jupyter would start another environment's Python if these were set.
unexport JUPYTER_PATH JUPYTER_PREFER_ENV_PATH

.DEFAULT_GOAL := help
.PHONY: help setup book record demo pdf paper test test-data faults slurm bench lint lock clean distclean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## .venv with the pinned requirements and the package

$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: $$($(PYTHON) --version) is too old; expected Python 3.11 or newer; set PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
		|| { echo "error: $(PYTHON) cannot make environments; on Debian: apt-get install python3-venv" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

book: $(READY) ## the book: pages from the record, and the demo's, computed here (CORES=n)
	$(BIN)/odin book $(if $(CORES),--cores $(CORES))

record: $(READY) ## the pages from the record alone: no data, no training
	$(BIN)/odin book --only record $(if $(CORES),--cores $(CORES))

demo: $(READY) ## the demo's pages alone: everything embedded, everything computed here
	$(BIN)/odin book --only demo $(if $(CORES),--cores $(CORES))

pdf: $(READY) ## the record's pages as a PDF, book/_build/odin.pdf: printed by Chromium
	@sh tests/chromium.sh
	$(BIN)/odin book --pdf $(if $(CORES),--cores $(CORES))

# What cannot be had here (data, weights) is named and left out; what is there already is not computed again.
paper: $(READY) ## compute the record itself: hours on a GPU, days without (RAW=folder of raw data sets)
	$(if $(RAW),$(BIN)/odin data prepare all --source $(RAW))
	-$(BIN)/odin respond --profile paper --all
	$(BIN)/odin seal
	$(BIN)/odin verify

test: $(READY) lint ## every check: style, types, library, notebooks, the built book (ARGS=pytest's options)
	@sh tests/chromium.sh
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile $(ARGS)

test-data: $(READY) ## the tests on real data, on all images (ODINLIB_DATA=prepared sets, ODINLIB_CHECKPOINTS=folders of weights)
	ODINLIB_TEST_ALL=1 $(BIN)/python -m pytest -m data $(ARGS)

faults: $(READY) ## every bad input and KILLS kills of every command (500): minutes, and an hour
	$(BIN)/python tests/bad_inputs.py
	$(BIN)/python tests/kills.py $(or $(KILLS),500)

slurm: $(READY) ## the Snakefile's jobs on a Slurm of one node, started for it (root on Debian)
	tests/slurm.sh

bench: $(READY) ## what an image costs, by this engine and by others (ARGS=--help lists the options)
	$(BIN)/python benchmarks/run.py $(ARGS)

lint: $(READY) ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# pip resolves without installing; CUDA's parts exist for Linux alone, and elsewhere PyTorch does not ask for them. jpeglib
# has no wheels for Linux but on x86-64.
lock: $(READY) ## pin what pyproject.toml asks for, keeping the pins there are (UPGRADE=1 takes the newest)
	@mkdir -p build
	$(BIN)/python -m pip install --quiet --dry-run --ignore-installed --report build/lock.json \
		$(if $(UPGRADE),,-c requirements.txt) '.[book,data,test]'
	@$(BIN)/python -c "import json, re; \
		found = [entry['metadata'] for entry in json.load(open('build/lock.json'))['install']]; \
		pins = {re.sub('[-_.]+', '-', each['name']).lower(): each['version'].partition('+')[0] for each in found}; \
		pins.pop('odinlib'); \
		where = {'cuda-|nvidia-|triton': ' ; sys_platform == \"linux\"', \
			'jpeglib': ' ; sys_platform != \"linux\" or platform_machine == \"x86_64\"'}; \
		print('# Made by \`make lock\` from pyproject.toml.'); \
		[print(f'{name}=={pins[name]}' + next((place for some, place in where.items() if re.match(some, name)), '')) \
		for name in sorted(pins)]" > build/requirements.txt
	@mv build/requirements.txt requirements.txt

clean: ## remove what was made, but results and environment
	rm -rf build book/_build book/notebooks book/live book/pages book/data .snakemake .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

distclean: clean ## remove the environment and the demo's results too
	rm -rf .venv results/demo
