# What this project can do for who works on it. `make help` lists it.

SHELL := /bin/bash

# The Pythons that are there, found by trying them; any of these can be given:
#   make test PYTHON=/path/to/python3.12 OLDEST=
PYTHON ?= $(shell .ci/pythons newest)
OLDEST ?= $(shell .ci/pythons oldest)

RUN_VENV := .venv
VENV := .venvs/newest
OLD_VENV := .venvs/oldest
COMPILED := .venvs/compiled
BENCH := .venvs/bench
BIN := $(VENV)/bin
# Test runs at a time. With 2 `make test` takes three quarters of the time, and each run
# is shown when it has ended; tests that wait for other processes find a busy machine.
JOBS ?= 1
OLD_BIN := $(OLD_VENV)/bin

.PHONY: help
help:
	@echo 'make run          serve development.ini, over AJP and to a browser'
	@echo 'make test         everything: lint, types, all tests on two Pythons (JOBS=2: in parallel)'
	@echo 'make lint         ruff, and the format'
	@echo 'make types        mypy --strict'
	@echo 'make unit         unit and property tests'
	@echo 'make engine       tests of our server over loopback'
	@echo 'make integration  tests behind real front ends'
	@echo 'make test-compiled  unit, property and engine tests of the compiled build'
	@echo 'make bench        compare with other servers, the short form'
	@echo 'make coverage     what unit, property and engine tests reach'
	@echo 'make format       put the code into shape'
	@echo 'make dist         sdist and wheel in dist/'
	@echo 'make clean        remove what these made'

# -- virtual environments ------------------------------------------------------

# A venv is done when its stamp is newer than what it was made from.
$(RUN_VENV)/.installed: setup.cfg setup.py pyproject.toml
	@.ci/make-venv '$(PYTHON)' $(RUN_VENV) '.[dev]'
	@touch $@

$(VENV)/.installed: setup.cfg setup.py pyproject.toml
	@.ci/make-venv '$(PYTHON)' $(VENV) '.[develop]'
	@touch $@

$(OLD_VENV)/.installed: setup.cfg setup.py pyproject.toml
	@.ci/make-venv '$(OLDEST)' $(OLD_VENV) '.[develop]'
	@touch $@

# -- run -----------------------------------------------------------------------

.PHONY: run
run: $(RUN_VENV)/.installed
	@echo 'Serving development.ini; Ctrl-C stops it.'
	@exec $(RUN_VENV)/bin/paste-ajp serve development.ini

# -- tests ---------------------------------------------------------------------

.PHONY: lint
lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.PHONY: format
format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: types
types: $(VENV)/.installed
	$(BIN)/mypy

.PHONY: unit
unit: $(VENV)/.installed
	$(BIN)/python -m pytest tests/unit tests/property

.PHONY: engine
engine: $(VENV)/.installed
	$(BIN)/python -m pytest tests/engine

.PHONY: front-ends
front-ends:
	@.ci/install-front-ends

.PHONY: integration
integration: $(VENV)/.installed front-ends
	$(BIN)/python -m pytest tests/integration

.PHONY: coverage
coverage: $(VENV)/.installed
	$(BIN)/coverage run -m pytest -q tests/unit tests/property tests/engine
	$(BIN)/coverage report

# The oldest Python runs all but the long integration tests, the newest runs all.
.PHONY: test-oldest
test-oldest:
	@if [ -z '$(OLDEST)' ] || [ '$(OLDEST)' = '$(PYTHON)' ]; then \
	    echo 'One Python only is there: $(PYTHON). The tests run on that one.'; \
	else \
	    $(MAKE) --no-print-directory $(OLD_VENV)/.installed && \
	    echo && $(OLD_BIN)/python -VV && \
	    $(OLD_BIN)/python -m pytest tests/unit tests/property tests/engine && \
	    $(OLD_BIN)/python -m pytest -m smoke tests/integration; \
	fi

.PHONY: test-newest
test-newest: $(VENV)/.installed
	@echo
	$(BIN)/python -VV
	$(BIN)/python -m pytest

# The same again with the hot path compiled, as PASTE_AJP_COMPILE=1 does it.
.PHONY: test-compiled
test-compiled: $(VENV)/.installed
	@echo
	@.ci/test-compiled '$(PYTHON)' $(COMPILED) $(VENV)

.PHONY: test-others
test-others:
	@$(MAKE) --no-print-directory test-oldest
	@$(MAKE) --no-print-directory test-compiled

.PHONY: test
test:
	@$(MAKE) --no-print-directory $(VENV)/.installed front-ends
	@$(MAKE) --no-print-directory lint types
	@$(MAKE) --no-print-directory -j$(JOBS) $(if $(filter-out 1,$(JOBS)),-Otarget) \
	    test-newest test-others

# -- benchmarks ----------------------------------------------------------------

# Interleaved rounds of one load each; benchmarks/README.md has the long forms.
BENCH_ARGS ?= --group ajp,raw,http --case hello,100k --rounds 3 --secs 2 \
    --retries 0 --patience 3

.PHONY: bench
bench:
	@.ci/make-bench '$(PYTHON)' $(BENCH)
	@.ci/make-compiled '$(PYTHON)' $(COMPILED) || \
	    echo 'The compiled build is left out.'
	$(BENCH)/bin/python benchmarks/compare.py $(BENCH_ARGS)

# -- packages ------------------------------------------------------------------

.PHONY: dist
dist: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet build
	$(BIN)/python -m build

.PHONY: clean
clean:
	rm -rf .venv .venvs build dist .coverage .coverage.* htmlcov *.egg-info \
	    .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
