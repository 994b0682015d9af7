# Every verb is one line of the tools it names. `make help` lists them.
SHELL := /bin/sh
.DEFAULT_GOAL := help

UV_VERSION := 0.13.9
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
PYTHONS := python3 python3.13 python3.12 python3.11
# The newest crewai takes no Python beyond 3.13, and the demo runs all three frameworks.
SUITS := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))
PYTHON ?= $(firstword $(foreach p,$(PYTHONS),$(shell $(p) -c "$(SUITS)" 2>/dev/null && echo $(p))))
PACKAGES := $(sort $(dir $(wildcard packages/*/pyproject.toml)))
EDITABLE := $(foreach p,$(PACKAGES),-e $(p))
CARRY_ON := { echo "Set-up stopped here; what it says above is why. Run the same command again to carry on."; exit 1; }

.PHONY: help install model demo test lint typecheck format docs notebooks bench build lock check clean

help: ## list the verbs
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

$(VENV)/.uv-$(UV_VERSION):
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed, and none is on the PATH."; exit 1; }
	@echo "Making $(VENV) with $(PYTHON) ..."
	@$(PYTHON) -m venv --clear $(VENV) || { echo "$(PYTHON) cannot make a virtual environment; on Debian: apt-get install python3-venv"; exit 1; }
	@$(BIN)/python -m pip install --quiet uv==$(UV_VERSION) || $(CARRY_ON)
	@touch $@

# llama-cpp-python comes as source: it goes in first, so that a run cut off later need not build it again.
$(VENV)/.compiled: requirements.lock | $(VENV)/.uv-$(UV_VERSION)
	@command -v c++ >/dev/null || command -v g++ >/dev/null || command -v clang++ >/dev/null || { \
	  echo "A C and C++ compiler is needed to build llama.cpp; on Debian: apt-get install build-essential"; exit 1; }
	@echo "Building llama.cpp, once; about five minutes on two cores ..."
	@sed -n '/^llama-cpp-python==/,/[^\\]$$/p' requirements.lock > $(VENV)/compiled.txt
	@rm -rf $(VENV)/wheels
	@$(BIN)/python -m pip wheel --quiet --no-deps --require-hashes -r $(VENV)/compiled.txt --wheel-dir $(VENV)/wheels || $(CARRY_ON)
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps $(VENV)/wheels/*.whl || $(CARRY_ON)
	@touch $@

$(VENV)/.installed: requirements.lock pyproject.toml $(wildcard packages/*/pyproject.toml) | $(VENV)/.compiled
	@echo "Installing what requirements.lock names ..."
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock || $(CARRY_ON)
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation $(EDITABLE) || $(CARRY_ON)
	@touch $@

install: $(VENV)/.installed ## set up .venv with everything the project needs

model: install ## fetch the default local model, unless it is here
	@$(BIN)/aideon pull

demo: model ## a LangChain chain, a LlamaIndex query and a CrewAI crew, routed between local and cloud
	@$(BIN)/python docs/demo/demo.py

test: model ## run the tests
	@$(BIN)/python -m pytest $(ARGS)

format: install ## format the code and mend what ruff can mend
	@$(BIN)/ruff format packages tests benchmarks docs .ci
	@$(BIN)/ruff check --fix packages tests benchmarks docs .ci

lint: install ## check style and the import rules
	@$(BIN)/ruff format --check packages tests benchmarks docs .ci
	@$(BIN)/ruff check packages tests benchmarks docs .ci
	@$(BIN)/lint-imports

typecheck: install ## check the types
	@$(BIN)/mypy packages/*/src tests/typing benchmarks docs/demo .ci

docs: model ## build the documentation, warnings are errors
	@$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

notebooks: model ## run every notebook top to bottom
	@$(BIN)/python -m pytest tests/workspace/test_notebooks.py $(ARGS)

bench: model ## measure against the named peers
	@$(BIN)/python benchmarks $(ONLY)

build: install ## build wheels, then install and import each one alone
	@rm -rf dist
	@for p in $(PACKAGES); do $(BIN)/python -m build --no-isolation --outdir dist $$p >/dev/null || exit 1; done
	@$(BIN)/twine check --strict dist/*
	@$(BIN)/python .ci/try_wheels.py dist

lock: $(VENV)/.uv-$(UV_VERSION) ## resolve the dependencies anew into requirements.lock
	@$(UV) lock --quiet --upgrade
	@$(UV) export --quiet --all-packages --all-extras --all-groups --no-emit-workspace --no-annotate --no-header --format requirements.txt --output-file requirements.lock

check: lint typecheck test docs build ## everything a change has to pass

clean: ## remove what the other verbs made in this folder
	rm -rf $(VENV) .venv-bench dist docs/_build docs/jupyter_execute
