# Every target works on a bare checkout: what is missing is set up first.
# PYTHON picks the interpreter of the environment; PRESET, OUT and OPTIONS change the study; DATA is
# the folder with full MNIST for the benchmarks, NAMES which of them. MINUTES is how
# long the chaos lasts.
PYTHON ?= python3
PRESET ?= quick
OUT ?= results
OPTIONS ?=
DATA ?=
NAMES ?=
MINUTES ?= 5
BIN := .venv/bin
READY := .venv/.installed

.PHONY: help setup study test test-cluster test-s3 chaos endings environments bench lint format lock clean

help:            ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /	/'

setup: $(READY)  ## create .venv and install the locked packages

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; say which with make PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing the locked packages into .venv (a few GB, some minutes, once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes \
	  -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps \
	  --no-build-isolation --editable .
	@touch $@

study: setup     ## compute the assignment (make study PRESET=full OPTIONS="--gpus-per-trial 1")
	@$(BIN)/study run assignment --preset $(PRESET) --out $(OUT) $(OPTIONS)

# Files of tests side by side, then those on Ray, which share one and want its cores; both, whatever
# the first find. pytest's code 5, no test chosen, is no failure: OPTIONS may choose of one kind.
test: setup      ## run the tests
	@failed=0; \
	$(BIN)/python -m pytest -m "not ray and not cluster" --numprocesses auto --maxprocesses 4 \
	  --dist loadfile $(OPTIONS) || test $$? -eq 5 || failed=1; \
	$(BIN)/python -m pytest -m "ray and not cluster" $(OPTIONS) || test $$? -eq 5 || failed=1; \
	exit $$failed

test-cluster: setup  ## run the tests on hosts of their own (root; Debian's openssh-server iproute2 rsync)
	@$(BIN)/python -m pytest tests/cluster -m cluster $(OPTIONS)

test-s3: setup   ## run the store's tests on a real S3 server (root; Debian's radosgw ceph-mon ceph-mgr ceph-osd)
	@bash tests/radosgw.sh
	@STUDY_TEST_S3=7480 $(BIN)/python -m pytest tests/study/store $(OPTIONS); code=$$?; \
	bash tests/radosgw.sh stop; exit $$code

chaos: setup     ## kill workers, hosts and the driver of a study for MINUTES, and compare its rows
	@$(BIN)/python tests/chaos.py --minutes $(MINUTES) $(OPTIONS)

environments: setup  ## a tiny study on machines as users have them: offline, another user, no home … (root)
	@PYTHONPATH=. $(BIN)/python tests/environments.py

endings: setup   ## end every command by a signal at 30 random moments
	@$(BIN)/python tests/endings.py $(OPTIONS)

lint: setup      ## style, types, and which package may import which
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

bench: setup     ## measure speed and memory (make bench DATA=DIR, a folder with full MNIST)
	@$(BIN)/python -m benchmarks $(NAMES) $(if $(DATA),--data-dir "$(DATA)") $(OPTIONS)

format: setup    ## rewrite the sources in the one style
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

lock:            ## pin every version and hash anew (needs uv)
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --custom-compile-command "make lock" \
	  --output-file requirements.lock --upgrade

clean:           ## remove the environment and caches, not the results
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
