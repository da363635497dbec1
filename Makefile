# Every target works on a new checkout: it first sets up what is missing.
# PYTHON is the interpreter of a new environment; PRESET, OUT and OPTIONS are options of the study;
# DATA is the folder with full MNIST for the benchmarks, and NAMES lists the benchmarks to run;
# MINUTES is the duration of `make chaos`. The shell splits OPTIONS into words; the value of every
# other variable is passed on unchanged, whatever characters it has.
PYTHON ?= python3
PRESET ?= quick
OUT ?= results
OPTIONS ?=
DATA ?=
NAMES ?=
MINUTES ?= 5
BIN := .venv/bin
READY := .venv/.installed
UNFINISHED := .venv/.unfinished
quoted = '$(subst ','\'',$1)'

# An environment is created again if its installation was interrupted, if it was moved here from
# another folder, or if its interpreter is missing. Removal starts with the interpreter, so that an
# interrupted removal also leaves a broken environment.
BROKEN := $(shell test -d .venv && { test -e $(UNFINISHED) || ! test -x $(BIN)/python || \
  { test -s $(READY) && ! pwd -P | cmp -s - $(READY); }; } && echo yes)
ifdef BROKEN
.PHONY: $(READY)
endif

# pip installs the locked versions into .venv, whatever its configuration says about versions and
# folders. Its index settings stay in force.
PIP := PIP_USER=0 PIP_REQUIRE_HASHES=0 PIP_CONSTRAINT=/dev/null $(BIN)/python -I -m pip --python= \
  install --quiet --disable-pip-version-check --no-compile --target= --root=/ --prefix="$$PWD/.venv"

.PHONY: help setup study test coverage test-cluster test-s3 test-pythons chaos endings environments bench lint docs format lock clean

help:            ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /	/'

# If flock exists, a second make waits until the first one's installation is done.
setup:           ## create .venv and install the locked packages
	@$(if $(shell command -v flock),flock requirements.lock) $(MAKE) --no-print-directory $(READY)

$(READY): requirements.lock pyproject.toml
	@$(if $(BROKEN),rm -rf $(BIN)/python .venv)
	@test -x $(BIN)/python || \
	  $(call quoted,$(value PYTHON)) -I -c \
	    'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' || \
	  { echo "Python 3.11 to 3.14 is needed; choose one with make PYTHON=python3.12"; exit 1; }
	@mkdir -p .venv && pwd -P > $(UNFINISHED) && rm -f $@
	@test -x $(BIN)/python || $(call quoted,$(value PYTHON)) -I -m venv .venv
	@echo "installing the locked packages into .venv (a few GB, some minutes, once)"
	@# The lock is complete. Without --no-deps, pip 23.2 takes the newest coverage for pytest-cov's
	@# `coverage[toml]`, although the lock pins another, and stops.
	@$(PIP) --no-deps --require-hashes -r requirements.lock
	@$(PIP) --no-deps --no-build-isolation --editable .
	@# pip would compile the 21,800 modules on one core, in 60 s. A few are templates, and fail.
	@$(BIN)/python -I -m compileall -qq -j 0 .venv/lib || true
	@mv $(UNFINISHED) $@

study: setup     ## compute the assignment (make study PRESET=full OPTIONS="--gpus-per-trial 1")
	@$(BIN)/python -m study run assignment --preset $(call quoted,$(value PRESET)) \
	  --out $(call quoted,$(value OUT)) $(OPTIONS)

# First test files run in parallel; then those on Ray, which share one Ray that needs all cores. The
# second part runs even if the first fails. Parallel files get one BLAS and OpenMP thread each:
# eigh(1200) took 8.8 to 24 s with two threads on busy cores, 0.94 s with one. pytest's exit code 5 (no
# test selected) is no failure, because OPTIONS may select tests of one part only.
test: setup      ## run the tests
	@failed=0; \
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 \
	$(BIN)/python -m pytest -m "not ray and not cluster" --numprocesses auto --maxprocesses 4 \
	  --dist loadfile $(OPTIONS) || test $$? -eq 5 || failed=1; \
	$(BIN)/python -m pytest -m "ray and not cluster" $(OPTIONS) || test $$? -eq 5 || failed=1; \
	exit $$failed

coverage: setup  ## run the tests, and list the lines and branches that no test reaches
	@$(BIN)/coverage erase
	@$(MAKE) --no-print-directory test OPTIONS=$(call quoted,--cov --cov-append --cov-report= $(value OPTIONS))
	@$(BIN)/coverage report

test-cluster: setup  ## run the tests on simulated hosts (root; Debian's openssh-server iproute2 rsync)
	@$(BIN)/python -m pytest tests/cluster -m cluster $(OPTIONS)

test-s3: setup   ## run the store's tests on a real S3 server (root; Debian's radosgw ceph-mon ceph-mgr ceph-osd)
	@bash tests/radosgw.sh
	@STUDY_TEST_S3=7480 $(BIN)/python -m pytest tests/study/store $(OPTIONS); code=$$?; \
	bash tests/radosgw.sh stop; exit $$code

test-pythons:    ## install and run the smallest study with each installed Python 3.11 to 3.14
	@bash tests/pythons.sh

chaos: setup     ## kill workers, hosts and the driver of a study for MINUTES, then compare its rows
	@$(BIN)/python tests/chaos.py --minutes $(call quoted,$(value MINUTES)) $(OPTIONS)

environments: setup  ## run a tiny study under unusual conditions: offline, another user, no home … (root)
	@$(BIN)/python -m tests.environments

endings: setup   ## send every command a signal at 30 random moments
	@$(BIN)/python -m tests.endings $(OPTIONS)

lint: setup      ## style, types, and which package may import which
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/python -m mypy
	@$(BIN)/lint-imports --no-cache

bench: setup     ## measure speed and memory (make bench DATA=DIR, a folder with full MNIST)
	@$(BIN)/python -m benchmarks $(foreach name,$(value NAMES),$(call quoted,$(name))) \
	  $(if $(value DATA),--data-dir $(call quoted,$(value DATA))) $(OPTIONS)

docs: setup      ## build the documents as a site in site/; a broken link is an error
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

format: setup    ## format the sources
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

lock:            ## update requirements.lock (needs uv)
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --custom-compile-command "make lock" \
	  --output-file requirements.lock --upgrade

clean:           ## remove the environment and caches, not the results
	rm -rf $(BIN)/python .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
