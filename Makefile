# The two commands are `make book` and `make test`; `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -eo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# CPU builds of PyTorch come from here on Linux; `make book TORCH_INDEX=` takes the default (CUDA) builds.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
INSTALLED := $(VENV)/.installed
NOTEBOOKS := notebooks
# empty: everything; else, for example, PYTEST_ARGS="tests/test_metrics.py"
PYTEST_ARGS ?= tests
# One process a core, each with one thread: much of the time is spent outside PyTorch. A file stays in one process.
WORKERS ?= -n logical --maxprocesses 4 --dist loadfile
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(WORKERS)

.PHONY: help book test lint nbval lab notebooks ocr pins figures clean distclean
.DELETE_ON_ERROR:

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

book: $(INSTALLED) ## set up, run every notebook, build the HTML book in _build/html
	$(BIN)/python book/build.py

test: $(INSTALLED) lint ## set up or re-use the same environment, run all tests and re-execute the notebooks
	$(PYTEST) $(PYTEST_ARGS)
	$(MAKE) --no-print-directory nbval

lint: $(INSTALLED) ## check the style of all Python code and the layers of the library
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check --quiet .
	$(BIN)/lint-imports --no-logo

nbval: $(INSTALLED) ## re-execute the notebooks and compare with their stored outputs
	$(PYTEST) --nbval $(NOTEBOOKS)

lab: $(INSTALLED) ## open the notebooks in JupyterLab
	$(BIN)/python -m jupyterlab --notebook-dir=. $(NOTEBOOKS)

notebooks: $(INSTALLED) ## re-run every notebook where it lies, with its defaults (before committing them)
	$(BIN)/python book/build.py --in-place

ocr: $(INSTALLED) ## add the optional OCR baseline to the environment
	$(BIN)/python -m pip install -r requirements-ocr.txt

figures: $(INSTALLED) ## draw the picture of the task for README again
	$(BIN)/python book/figures.py

pins: ## copy the pins of requirements.txt into environment.yml
	{ sed '/- --extra-index-url/q' environment.yml; sed -n 's/^\([A-Za-z0-9].*\)$$/      - \1/p' requirements.txt; } > environment.yml.new
	mv environment.yml.new environment.yml

clean: ## remove what `make book` built
	rm -rf _build build

distclean: clean ## remove the environment too
	rm -rf $(VENV)

# The stamp is younger than what decides the environment, so that a second `make` starts at once.
$(INSTALLED): requirements.txt pyproject.toml
	@[ "$$(uname -sm)" != "Darwin x86_64" ] || { echo "PyTorch has no wheels for Intel Macs: take Linux, or a Mac with Apple silicon."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11, 5) and "Python 3.11.5 or newer is needed, this is " + sys.version.split()[0] + "; say which one: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@if [ -n "$(TORCH_INDEX)" ] && [ "$$(uname -s)" = Linux ]; then \
	  $(BIN)/python -m pip install --quiet --no-deps --retries 1 --timeout 15 --index-url "$(TORCH_INDEX)" \
	    $$(grep -E '^(torch|torchvision)==' requirements.txt) 2>/dev/null \
	  || echo "No CPU build at $(TORCH_INDEX): taking the default builds of PyTorch."; fi
	$(BIN)/python -m pip install -r requirements.txt
	$(BIN)/python -m pip install --no-deps --no-build-isolation -e .
	@touch $@
