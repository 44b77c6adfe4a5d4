# Needs Python 3.12 or 3.13, Java 17 and make; everything else is set up in .venv.
SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
TABLES ?= demo/tables
LAKE ?=
PLATFORM ?=
EXTRAS ?=
export SPARK_LOCAL_IP := 127.0.0.1

.PHONY: help setup demo test test-all test-gpu test-gpu-install test-rapids test-raw test-browser test-matrix test-platforms package mutants lint types docs check audit bench lock clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/.installed  ## virtual environment with everything that demo and test need

$(VENV)/.installed: requirements.lock pyproject.toml
	@./check-machine.sh
	@PYTHON=$$(./check-machine.sh --python) && { [ -x $(BIN)/python ] || "$$PYTHON" -m venv $(VENV); }
	@echo "installing packages into $(VENV) (3-6 minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@$(BIN)/python -m dedup_spark.commands.prepare
	@touch $@

demo: setup  ## run the whole job on sample photos, or on your own: make demo LAKE=/my/photos TABLES=/my/tables
	@$(BIN)/dedup-spark demo --tables "$(TABLES)" $(if $(LAKE),--lake "$(LAKE)")

# Two processes, each with a Spark of its own, which mostly waits for one thread of its driver. A file of tests stays whole.
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test: setup  ## the tests that every change must pass
	$(PYTEST)

test-all: setup docs  ## every test, also the slow ones and those that kill processes; and the site
	$(PYTEST) -m 'not gpu and not browser and not rapids and not camera'

# The extra `gpu` has its own environment: faiss-gpu and faiss-cpu install the same module, and the lock file names the latter.
GPU_VENV := .venv-gpu
GPU_PYTHON ?= $(if $(wildcard $(GPU_VENV)/bin/python),$(GPU_VENV)/bin/python,$(BIN)/python)

test-gpu-install:  ## the extra `gpu` in an environment of its own, .venv-gpu (8 GB), and what it sees here
	@./check-machine.sh --python > /dev/null && rm -rf $(GPU_VENV) && "$$(./check-machine.sh --python)" -m venv $(GPU_VENV)
	$(GPU_VENV)/bin/python -m pip install --quiet --disable-pip-version-check '.[gpu,demo]' pytest
	@$(GPU_VENV)/bin/python -m pip check
	@$(GPU_VENV)/bin/python tests/gpu_packages.py

test-gpu:  ## the tests that need CUDA, by .venv-gpu or what is there; what is missing fails and is named
	@[ -x $(GPU_PYTHON) ] || $(MAKE) --no-print-directory setup
	@$(GPU_PYTHON) tests/gpu_packages.py --must-have-a-gpu
	$(GPU_PYTHON) -m pytest -m gpu tests/test_cuda.py
	$(GPU_PYTHON) benchmarks/exact_gpu.py --device cuda:0
	$(GPU_PYTHON) benchmarks/faiss_join.py --gpu cuda:0
	@if $(GPU_PYTHON) -c 'import pyspark' 2> /dev/null; then $(GPU_PYTHON) benchmarks/embed.py --quick; \
	else echo 'test-gpu: benchmarks/embed.py was not run: $(GPU_PYTHON) has no PySpark'; fi

test-rapids: setup  ## the whole job with NVIDIA's RAPIDS accelerator, which explains and needs no GPU (fetches 1 GB once)
	$(BIN)/python -m pytest -m rapids tests/test_rapids.py

test-raw: setup  ## camera RAW on the photo of a real camera (fetches 18 MB once)
	$(BIN)/python -m pytest -m camera tests/kernels/decoding/test_camera_raw.py

package: setup  ## what a platform needs, pinned, in build/package: make package PLATFORM=emr|k8s|databricks|standalone
	@$(BIN)/python conf/package.py $(PLATFORM) $(if $(EXTRAS),--extras $(EXTRAS)) $(ARGS)

test-platforms: setup  ## a real YARN and standalone cluster, Kubernetes' API, Hive's metastore (fetches 0.5 GB once)
	$(BIN)/python -m pytest -m 'platforms or not platforms' tests/platforms $(ARGS)

test-matrix: setup  ## the whole job on the demo lake with Spark 4.0, 4.1 and 4.2, and each Python that is here (fetches 1.4 GB once)
	$(BIN)/python tests/version_matrix.py $(ARGS)

mutants: setup  ## which errors in kernels/ would no test notice? (half an hour; ARGS="--all kernels/joins" tries all of a room)
	@$(BIN)/python tests/mutants.py $(ARGS)

test-browser: setup  ## the demo's report in Chromium, and what the README shows of it; writes docs/report.png
	$(BIN)/python -m pytest -m browser tests/test_browser.py

lint: setup  ## ruff: rules and format; the written parts of docs/; the licences of what is installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python docs/generate.py --check
	$(BIN)/python tests/licences.py

types: setup  ## mypy
	$(BIN)/mypy

docs: setup  ## the pages of docs/ as a site in build/site; a dead link or a page outside the navigation is an error
	$(BIN)/python docs/generate.py --check
	$(BIN)/python -m pytest -q -p no:cacheprovider tests/test_documents.py -k 'links or navigation or reference'
	$(BIN)/zensical build --strict --clean

check: lint types test  ## what CI runs

bench: setup  ## every benchmark, small
	@for f in benchmarks/*.py; do echo "== $$f"; $(BIN)/python $$f --quick || exit 1; done

# Every package that a platform gets is pinned by one of the two files (conf/package.py refuses others). --strict: a package
# that the database does not answer for is an error.
audit: setup  ## known vulnerabilities of what the lock files pin, and so of each platform's environment (asks PyPI's database)
	$(BIN)/python -m uv --quiet tool run pip-audit@2.10.1 --strict --progress-spinner off --disable-pip --no-deps -r requirements.lock -r conf/clusters.lock

lock: setup  ## write requirements.lock from what is installed, and conf/clusters.lock
	@$(BIN)/python -m pip freeze --exclude-editable > requirements.lock
	@$(BIN)/python conf/package.py --lock

clean:  ## remove what make made
	rm -rf $(VENV) build demo
