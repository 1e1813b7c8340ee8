# The same few verbs for users, developers and CI.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# [gpu] and [cpu] exclude each other: both install the module onnxruntime.
RUNTIME := $(if $(shell nvidia-smi -L 2>/dev/null | grep GPU),gpu,cpu)

.PHONY: install install-dev serve test check clean

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# Stamps, so that a second `make serve` starts at once.
$(VENV)/serve.stamp: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --editable '.[$(RUNTIME)]'
	@touch $@

$(VENV)/dev.stamp: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --editable '.[$(RUNTIME),train,dev]'
	@touch $@ $(VENV)/serve.stamp

install: $(VENV)/serve.stamp ## what serving needs: no torch

install-dev: $(VENV)/dev.stamp ## the rest: training and the tests

serve: install
	$(BIN)/resnet-serve $(ARGS)

test: install-dev
	$(BIN)/python -m pytest $(ARGS)

check: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache
