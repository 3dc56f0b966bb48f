# `make demo` and `make test` set up all they need; everything lives in .venv.
PYTHON ?= python3
BIN := .venv/bin
export OMP_NUM_THREADS ?= 1
# Test processes; a file's tests stay together, as they share a Ray cluster or a trained study.
WORKERS ?= 2
PYTEST := $(BIN)/pytest -q -n $(WORKERS) --dist loadfile

.PHONY: help install demo test test-slow lint format schema clean

help:  ## what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: .venv/installed  ## the environment, with the versions of constraints.txt

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: install  ## search the digits space on Ray, to a printed front
	$(BIN)/eca-search run digits --resume

lint: install  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint  ## linters and every test that is not slow
	$(PYTEST)

test-slow: install  ## the tests that take minutes
	$(PYTEST) -m slow

format: install  ## ruff's formatting and fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

schema: install  ## write schema.json from the models
	$(BIN)/eca-search schema > schema.json

clean:  ## forget the environment
	rm -rf .venv build *.egg-info
