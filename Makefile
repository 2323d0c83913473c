# Two commands: `make reproduce` (the notebooks, end to end) and `make test`.
#
#   make reproduce PROFILE=smoke                         the whole chain at its smallest
#   make reproduce                                       the default, PROFILE=cpu
#   make reproduce PROFILE=cpu POSTS=my/posts            on your own posts
#   make reproduce PROFILE=public PUBLIC_SOURCES=folder  on the three public sources
#   make reproduce ARGS="--from 05"                      anything `radar reproduce --help` knows
#   make verify                                          recompute the committed numbers from their scores
#   make reproduce SEEDS=3                               every row at three seeds
#   make studies                                         losses, controls and the map of masking: most of an hour
#   make scale                                           how the gaps move with up to 16 times the posts: over an hour
#   make diagnosis-eval SIZE=smoke                       plant failures, diagnose them blind, score (quick, full, lora)
#   make test-slow                                       the tests that take minutes, which `make test` leaves out
#   make bench                                           speed of all parts, as records in benchmarks/records
#
# PYTHON=python3.12 chooses the interpreter. TORCH_INDEX_URL=... (see PyTorch's installation page) makes pip
# take torch from there first, e.g. its CPU-only builds, which save some gigabytes on a machine without a GPU.

PROFILE ?= cpu
PYTHON ?= python3
VENV ?= .venv
ARGS ?=
POSTS ?=
PUBLIC_SOURCES ?=
TORCH_INDEX_URL ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

SEEDS ?=
ONE_CORE := OMP_NUM_THREADS=1 LOKY_MAX_CPU_COUNT=1  # each of pytest's workers: threads of one would wait for the others
SIZE ?= smoke

.PHONY: help setup reproduce studies scale diagnosis-eval verify test test-slow bench lab lint doctor results clean
.DEFAULT_GOAL := help

help:
	@sed -n 's/^# \{0,1\}//p' $(firstword $(MAKEFILE_LIST))

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] + ". Name another: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
ifneq ($(TORCH_INDEX_URL),)
	$(PIP) install --quiet --index-url $(TORCH_INDEX_URL) -c constraints.txt torch
endif
	$(PIP) install --quiet -c constraints.txt --editable .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) install --quiet -c constraints.txt --editable '.[test]'
	@touch $@

setup: $(VENV)/.installed

# Names of yours go through the environment, so that spaces and quotes in them stay what they are.
export RADAR_PROFILE = $(value PROFILE)
export RADAR_POSTS = $(value POSTS)
export RADAR_SOURCES = $(value PUBLIC_SOURCES)

reproduce: setup
	$(BIN)/radar reproduce --profile "$$RADAR_PROFILE" $(if $(value POSTS),--posts "$$RADAR_POSTS") $(if $(value PUBLIC_SOURCES),--public-sources "$$RADAR_SOURCES") $(if $(SEEDS),--set seeds=$(SEEDS)) $(ARGS)

studies: setup
	$(BIN)/radar studies --profile "$$RADAR_PROFILE" $(if $(SEEDS),--seeds $(SEEDS)) $(ARGS)

scale: setup
	$(BIN)/radar studies --profile "$$RADAR_PROFILE" --only scale $(ARGS)

diagnosis-eval: setup
	$(BIN)/python -m radar_suite.diagnosis.evaluate --size $(SIZE) --out runs/diagnosis $(ARGS)

verify: setup
	$(BIN)/radar verify --profile "$$RADAR_PROFILE" $(ARGS)

test: $(VENV)/.installed-test
	$(BIN)/python -m ruff check .
	$(ONE_CORE) $(BIN)/python -m pytest -m 'not slow' -n auto --dist loadfile --no-loadscope-reorder --cov --cov-report term:skip-covered --cov-fail-under 90 $(ARGS)

test-slow: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m slow $(ARGS)

bench: setup
	$(BIN)/python benchmarks/bench.py $(ARGS)

lab: setup
	$(BIN)/jupyter lab --LabApp.default_url=/lab/tree/notebooks/00_primer.ipynb

doctor: setup
	$(BIN)/radar doctor

results: setup
	$(BIN)/radar results

clean:
	rm -rf runs figures/smoke
