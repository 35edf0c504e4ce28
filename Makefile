# Every target does its own set-up into .venv; a clean machine needs Python 3.11+ with venv, and make.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash

VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/.stamps
OUT := out

# The first interpreter that is new enough and can build environments; override with PYTHON=…
FIND_PYTHON = for python in "$(PYTHON)" python3 python3.14 python3.13 python3.12 python3.11; do \
	  [ -n "$$python" ] && "$$python" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null \
	    && { echo "$$python"; exit 0; }; \
	done; exit 1

.PHONY: help setup demo test slow fuzz soak machine matrix lab services bench check docs lock changelog clean

help:  ## show this list
	@echo "kernel_runtime: what this Makefile can do (each target sets up .venv by itself)"
	@echo
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 20

setup: $(STAMPS)/kernelspec  ## environment, package and kernelspec in .venv

$(BIN)/python:
	@python=$$($(FIND_PYTHON)) || { echo "No Python 3.11 to 3.14 with venv found. On Debian: apt-get install python3 python3-venv" >&2; exit 1; }; \
	echo "Making $(VENV) with $$($$python --version)"; \
	rm -rf $(VENV) && $$python -m venv $(VENV)

$(STAMPS)/requirements: constraints/dev.txt | $(BIN)/python
	@echo "Installing what constraints/dev.txt pins (each file checked against its hash); a minute or two"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r constraints/dev.txt
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/package: $(STAMPS)/requirements pyproject.toml extensions/papermill/pyproject.toml
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . -e extensions/papermill
	@touch $@

$(STAMPS)/kernelspec: $(STAMPS)/package
	@$(BIN)/kernel-runtime install --sys-prefix
	@touch $@

demo: $(STAMPS)/kernelspec  ## run notebooks/00_start.ipynb in the sandbox, here in the terminal
	@mkdir -p $(OUT)
	@$(BIN)/kernel-runtime run notebooks/00_start.ipynb -o $(OUT)/00_start.ipynb --html
	@echo
	@echo "Executed notebook: $(CURDIR)/$(OUT)/00_start.ipynb"
	@echo "As a page:         $(CURDIR)/$(OUT)/00_start.html"
	@echo "What next:         make lab   (the same notebook, live, in JupyterLab)"
	@echo "                   $(BIN)/kernel-runtime exec -c 'open(\"/etc/shadow\")'   (see a wall)"
	@echo "                   $(BIN)/kernel-runtime doctor   (which walls this machine can build)"

# One process more than there are cores, and four at most: many tests wait for what a limit ends.
PYTEST = $(BIN)/python -m pytest -n $$(($$(nproc) + 1)) --maxprocesses=4 --dist=loadfile

test: $(STAMPS)/kernelspec  ## the suite: unit, walls, journeys, notebooks, with coverage; about ten minutes on two cores
	@mkdir -p .coverage
	@$(PYTEST) -m "not slow" --cov --cov-report=term $(if $(ARGS),--cov-fail-under=0) $(ARGS)

slow: $(STAMPS)/kernelspec  ## what takes longer than that: each attack on each page, long sequences, each benchmark once
	@$(PYTEST) -m slow $(ARGS)

FUZZ_SECONDS ?= 300

fuzz: $(STAMPS)/kernelspec  ## frames, contents, limits, manifests and system calls by chance (FUZZ_SECONDS=300 a part)
	@KERNEL_RUNTIME_HYPOTHESIS=long KERNEL_RUNTIME_FUZZ_SECONDS=$(FUZZ_SECONDS) \
	  KERNEL_RUNTIME_FUZZ_SEED=$${KERNEL_RUNTIME_FUZZ_SEED:-$$RANDOM} \
	  $(BIN)/python -m pytest tests/test_fuzz.py tests/test_wire.py tests/domain/test_limits.py \
	  tests/domain/test_manifest_fuzz.py tests/walls/test_syscall_fuzz.py --timeout=7200 $(ARGS)

soak: $(STAMPS)/kernelspec  ## 10,000 guests and 1,000 hostile cells: nothing may be left, nothing may grow
	@KERNEL_RUNTIME_SOAK_GUESTS=10000 KERNEL_RUNTIME_SOAK_CELLS=1000 \
	  $(BIN)/python -m pytest tests/soak -o log_cli=true --log-cli-level=INFO --timeout=7200 $(ARGS)

machine: $(STAMPS)/kernelspec  ## doctor, verdicts and walls in an emulated machine with Debian's kernel and cgroup v2 (long)
	@bash tests/machine.sh $(ARGS)

matrix:  ## the walls with every library, on each Python 3.11 to 3.14 that is found here
	@bash tests/matrix.sh $(ARGS)

lab: $(STAMPS)/kernelspec  ## JupyterLab with the kernel "Python (kernel_runtime)"
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/jupyter lab --notebook-dir=notebooks $(ARGS)

services: $(STAMPS)/kernelspec  ## the same beside the small shop that notebooks/03_permissions.ipynb asks
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python notebooks/services.py jupyter lab --notebook-dir=notebooks $(ARGS)

bench: $(STAMPS)/kernelspec  ## speed and memory, as ratios against plain ipykernel and bubblewrap
	@$(BIN)/python -m benchmarks $(ARGS)

check: $(STAMPS)/package  ## formatting, lint, types, import contracts, dependencies
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .

docs: $(STAMPS)/package  ## the documentation as HTML, in docs/_build/html
	@$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html
	@echo "Documentation: $(CURDIR)/docs/_build/html/index.html"

lock:  ## resolve constraints/dev.txt anew (needs uv; Python 3.11 to 3.14 in one file)
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-strip-extras --upgrade --quiet \
	  --no-emit-index-url --no-header --no-annotate --all-extras pyproject.toml -o constraints/dev.txt

changelog: $(STAMPS)/package  ## what the next release's changelog would say
	@$(BIN)/towncrier build --draft --version next

clean:  ## remove everything the targets above made
	rm -rf $(VENV) $(OUT) .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache \
	  docs/_build docs/jupyter_execute notebooks/out build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
