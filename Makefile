# `make bench` and `make test` each work alone on a fresh clone.
# PIP_ARGS goes to pip as it stands, e.g. to choose another PyTorch build (see README).
PYTHON   ?= python3
PIP_ARGS ?=
SPEC     ?= bench/specs/small_data.yaml
# Of `make gpu`: its options, such as --device cpu --quick.
GPU_ARGS ?=
# Of `make speed`: what to measure; default: everything.
PART     ?=
VENV     := .venv
BIN      := $(VENV)/bin
STAMP    := $(VENV)/.installed
DEV      := $(VENV)/.installed-dev
# What pip keeps to: constraints-oldest.txt for the oldest versions admitted, /dev/null for the newest.
CONSTRAINTS ?= constraints.txt
PIP_INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) $(PIP_ARGS)

# Of two clusters that begin at the same time one may take the port that the other has chosen: the
# two groups of tests that start Ray have networks of their own, or else follow on each other.
# (-r, by which any user may have one, is not for root, who could not mount a disk in it.)
UNSHARE := $(firstword $(foreach flags,-n -rn,$(shell unshare $(flags) true 2>/dev/null && printf '%s' $(flags))))
NETWORK := $(if $(UNSHARE),unshare $(UNSHARE) sh -c 'ip link set lo up && exec "$$@"' sh)
RAY     := $(shell grep -rl --include='test_*.py' ray_cluster tests)
UNCHECKED := RECONBENCH_TESTS_UNCHECKED=1
# The others in groups that keep the processors busy to the end; those of pages check no shapes.
PARTS   := tests/data tests/physics tests/methods
PAGES   := tests/dashboard tests/sweep tests/cluster
FAULTS  := $(filter tests/sweep/test_faults.py tests/sweep/test_cloud.py,$(RAY))

.PHONY: bench test tests-of-faults tests-of-ray tests-of-parts tests-of-pages other-tests types speed gpu install install-dev lint dashboard docs clean

bench: install
	$(BIN)/reconbench run $(SPEC)

test: install-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	cache=$$(mktemp -d) && trap 'rm -rf "$$cache"' EXIT && \
		RECONBENCH_TESTS_CACHE="$$cache" OMP_NUM_THREADS=1 $(MAKE) --no-print-directory -j3 -Oline \
		tests-of-faults tests-of-ray tests-of-parts tests-of-pages other-tests types

tests-of-faults:
	$(UNCHECKED) $(NETWORK) $(BIN)/python -m pytest -m ray $(FAULTS)

tests-of-ray: $(if $(NETWORK),,tests-of-faults)
	$(UNCHECKED) $(NETWORK) $(BIN)/python -m pytest -m ray $(filter-out $(FAULTS),$(RAY))

types:
	$(BIN)/mypy

tests-of-parts:
	$(BIN)/python -m pytest -m "not ray" $(PARTS)

tests-of-pages:
	$(UNCHECKED) $(BIN)/python -m pytest -m "not ray" $(PAGES)

other-tests:
	$(BIN)/python -m pytest -m "not ray" $(addprefix --ignore=,$(PARTS) $(PAGES))

install: $(STAMP)

install-dev: $(DEV)

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "ReconBench needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)

$(STAMP): pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	$(PIP_INSTALL) -e .
	touch $@

$(DEV): pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	$(PIP_INSTALL) -e '.[dev]'
	touch $(STAMP) $@

lint: install-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

speed: install-dev
	$(BIN)/python -m bench.speed $(PART)

gpu:
	$(PYTHON) -m bench.speed gpu $(GPU_ARGS)

dashboard: install
	$(BIN)/streamlit run dashboard/app.py

docs: install-dev
	$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build/html
	@echo docs/_build/html/index.html

clean:
	rm -rf docs/_build docs/generated $(VENV) build *.egg-info
