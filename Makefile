# Two commands do all: `make train` (install, then the main job) and `make test`.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
export CLIPNAV_DATA ?= $(abspath $(wildcard ../shared))

# Two workers, a file of tests each, one torch thread each: half the time on two cores.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

RUN ?= runs/houses
FLAGS ?=

.PHONY: help setup train test check format bench

help:
	@echo "make setup   make $(VENV) and install everything"
	@echo "make train   the main job: houses, their CLIP features, a follower, its scores (RUN=$(RUN) FLAGS='--steps 3000')"
	@echo "make test    the tests"
	@echo "make check   format, lint, types, import contracts, tests"
	@echo "make format  let ruff format and mend the code"
	@echo "make bench   the speed table, references beside it (ONLY=name for one file)"

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV): some minutes, torch is large"
	$(BIN)/python -m pip install -qq --upgrade pip
	$(BIN)/python -m pip install -qq --editable '.[dev]'
	@touch $@

train: setup
	$(BIN)/python -m agent.train --env r2r --out $(RUN) $(if $(wildcard $(RUN)/last.safetensors),--resume) $(FLAGS)

test: setup
	$(PYTEST)

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PYTEST)

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup
	$(BIN)/python tests/bench $(if $(ONLY),--only $(ONLY))
