# `make demo` and `make test` need nothing prepared but Python: they create .venv with all that is needed first.

SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# Pythons 3.10 to 3.NEWEST have wheels for every dependency; venv and pip are needed too. Give one as `make PYTHON=...`.
NEWEST := 13
FITS := import ensurepip, sys, venv; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, $(NEWEST)))
PYTHON = $(shell for python in python3 python3.13 python3.12 python3.11 python3.10; do \
	$$python -c '$(FITS)' 2>/dev/null && echo $$python && break; done)

# A ROS 2 that is sourced is used as it is, with the numpy that its packages were built for; otherwise pip brings ROS 2.
ROS = $(and $(ROS_DISTRO),$(shell $(PYTHON) -c 'import numpy, rclpy; print(f"numpy=={numpy.__version__}")' 2>/dev/null))
VENV_OPTIONS = $(if $(ROS),--system-site-packages)
REQUIREMENTS = $(if $(ROS),--editable '.[dev]' '$(ROS)',--editable '.[dev,ros]')

# Commands that print the versions that were tested together, and the oldest that setup.py admits (no wheels for 3.13).
TESTED := cat constraints.txt
OLDEST := grep -oE '[a-z0-9.-]+>=[0-9][0-9a-z.]*' setup.py | sed 's/>=/==/'
VERSIONS := $(TESTED)
# OpenCV's wheels are built for one numpy or another: pip finds the one for that of ROS 2.
CONSTRAINTS = <($(VERSIONS) $(if $(ROS),| grep -vE '^(numpy|opencv-python-headless)='))

# VLA-Arena pins numpy 1.26, so that it gets a Python of its own, 3.10 or 3.11.
VLA := .venv-vla
VLA_FITS := import ensurepip, sys, venv; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 11))
VLA_PYTHON = $(shell for python in python3.11 python3.10 python3; do \
	$$python -c '$(VLA_FITS)' 2>/dev/null && echo $$python && break; done)
VLA_ARENA_ASSETS ?= $(wildcard ../shared/vla_arena)

export AMENT_PREFIX_PATH := $(CURDIR)/$(VENV)$(if $(AMENT_PREFIX_PATH),:$(AMENT_PREFIX_PATH))
export ROS_AUTOMATIC_DISCOVERY_RANGE := LOCALHOST
export MUJOCO_GL ?= egl

.DEFAULT_GOAL := help
.PHONY: help demo test test-oldest faults chaos fuzz vla-arena soak lint format bench clean

help: ## list these targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/make \1\t\2/p' Makefile | expand -t 18

demo: $(INSTALLED) ## drive the simulated arm to five goal images; pictures, a plot and a video go to demo/; TASK=pick_place
	@$(BIN)/lewm demo --task $(or $(TASK),reach)

# Tests of one file share what they start, so that a file stays with one process.
test: $(INSTALLED) ## run the test suite in two processes; in so many: JOBS=4
	@$(BIN)/pytest -n $(or $(JOBS),2) --dist loadfile --no-loadscope-reorder

test-oldest: ## run it with the oldest versions that setup.py admits, in .venv-oldest; a quarter of an hour on two cores
	@$(MAKE) --no-print-directory test VENV=.venv-oldest VERSIONS="$(OLDEST)" NEWEST=12

faults: $(INSTALLED) ## run the fault table against real nodes; four minutes on a machine that does nothing else
	@$(BIN)/pytest test/test_fault_table.py

chaos: $(INSTALLED) ## a random fault, or two, every few seconds for ten minutes; another time, others: MINUTES=60 SEED=1
	@$(BIN)/python test/chaos.py --minutes $(or $(MINUTES),10) --seed $(or $(SEED),0)

fuzz: $(INSTALLED) ## import 2000 spoiled files of each format; fewer, others: MUTANTS=200 FORMATS=hdf5 SEED=1
	@$(BIN)/python test/fuzz_importers.py --mutants $(or $(MUTANTS),2000) --seed $(or $(SEED),0) $(FORMATS)

vla-arena: $(INSTALLED) $(VLA)/.installed ## put VLA-Arena into .venv-vla and run its tests; its data from VLA_ARENA_ASSETS, or downloaded
	@VLA_ARENA_PYTHON=$(CURDIR)/$(VLA)/bin/python $(BIN)/pytest test/test_vla_arena.py

soak: $(INSTALLED) ## drive the simulated arm for ten minutes: leaks, missed cycles, age of images; another time: MINUTES=60
	@$(BIN)/lewm bench soak --minutes $(or $(MINUTES),10) --json soak/soak.json --figure soak/soak.png

lint: $(INSTALLED) ## check style and format
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

format: $(INSTALLED) ## mend style and format
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

bench: $(INSTALLED) ## time encoding and planning on this machine
	@$(BIN)/lewm bench inference

clean: ## remove build outputs, demo/, soak/ and chaos/; .venv, .venv-*, data/ and runs/ stay
	rm -rf build install log demo soak chaos *.egg-info .hypothesis .pytest_cache .ruff_cache
	find . -path './.venv*' -prune -o -name __pycache__ -type d -exec rm -rf {} +

$(INSTALLED): setup.py setup.cfg constraints.txt
	@[ -n "$(PYTHON)" ] || { echo "make: no Python 3.10 to 3.$(NEWEST) with venv found; install one (Debian, Ubuntu:" \
		"apt install python3-venv) or name it: make PYTHON=/path/to/python3" >&2; exit 1; }
	@[ -x $(BIN)/pip ] || $(PYTHON) -m venv $(VENV_OPTIONS) $(VENV)
	@echo "Installing into $(VENV); the first time, pip downloads about 3 GB ..."
	@$(BIN)/python -m pip install -qq --constraint $(CONSTRAINTS) $(REQUIREMENTS)
	@touch $@

# Its data lie in the package itself; what is there is kept. Its downloader asks whether to go on, and ends with 0 anyhow.
$(VLA)/.installed: vla_arena.txt
	@[ -n "$(VLA_PYTHON)" ] || { echo "make: VLA-Arena needs Python 3.10 or 3.11 with venv; name one: make vla-arena" \
		"VLA_PYTHON=/path/to/python3.11" >&2; exit 1; }
	@[ -x $(VLA)/bin/pip ] || $(VLA_PYTHON) -m venv $(VLA)
	@echo "Installing VLA-Arena into $(VLA) ..."
	@$(VLA)/bin/python -m pip install -qq --requirement vla_arena.txt
	@$(VLA)/bin/python -m pip install -qq --no-deps vla-arena==1.0.0
	@folder=$$($(VLA)/bin/python -c 'import vla_arena.vla_arena as v; print(v.__path__[0])'); \
	if [ -n "$(VLA_ARENA_ASSETS)" ]; then \
		cp -rn "$(VLA_ARENA_ASSETS)/assets" "$(VLA_ARENA_ASSETS)/bddl_files" "$$folder/"; \
	else \
		$(VLA)/bin/python -m pip install -qq huggingface_hub && \
		echo y | $(VLA)/bin/vla-arena.download-tasks install-all --repo vla-arena/tasks; \
	fi; \
	[ -n "$$(find "$$folder/bddl_files" -name '*.bddl' -print -quit)" ] || { echo "make: no tasks of VLA-Arena were" \
		"installed; name a folder with its assets/ and bddl_files/, such as vla_arena/vla_arena of a clone of" \
		"https://github.com/PKU-Alignment/VLA-Arena: make vla-arena VLA_ARENA_ASSETS=FOLDER" >&2; exit 1; }
	@touch $@
