# setup: make .venv and install; train: the main job; test: the tests; check: all that a machine can judge; bench: speed table.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
CLIPNAV_DATA ?= $(wildcard ../shared)
export CLIPNAV_DATA

.PHONY: setup train test check bench clean

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@
