# What users call. Everything is relative, so a folder with a space in its name is fine.
# VENV=path uses an environment of yours; PYTHON=python3.12 chooses the interpreter.
SHELL := /bin/sh
VENV ?= .venv
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
CORES ?= all
SUITE ?= config/config.yaml
ifneq ($(words $(VENV)),1)
$(error VENV="$(VENV)" must be one path without spaces (the checkout itself may have them))
endif
BIN = $(VENV)/bin
RUN = PATH="$$(cd "$(BIN)" && pwd):$$PATH"
PIP = "$(BIN)/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt
SNAKEMAKE = $(RUN) snakemake --cores $(CORES)

.PHONY: demo demo-multi test test-all test-faults test-slurm test-slurm-all check tables track bench bench-dag bench-plan docs clean clean-results install install-test

demo: install
	$(SNAKEMAKE) --quiet rules reason --configfile config/demo.yaml
	@$(RUN) cmkd leaderboard config/demo.yaml
	@echo
	@echo "Tables and figures: results/demo/tables/demo, results/demo/figures/demo"
	@echo "MLflow UI:          $(BIN)/cmkd ui config/demo.yaml"

demo-multi: install
	$(SNAKEMAKE) --quiet rules reason --configfile config/demo_multi.yaml
	@$(RUN) cmkd leaderboard config/demo_multi.yaml

test: check
	$(RUN) OMP_NUM_THREADS=1 pytest -n 2 -m "not slow and not slurm" -q

test-all: check
	$(RUN) OMP_NUM_THREADS=1 pytest -n 2 -m "not slurm" -q

# Runs that are cut, killed, frozen, doubled or must not be tried again; about ten minutes.
test-faults: install-test
	$(RUN) OMP_NUM_THREADS=1 pytest -n 2 -q tests/scoring/test_lease.py tests/scoring/test_failures.py tests/learning/test_kill.py tests/learning/test_copies.py tests/learning/test_walltime.py tests/learning/test_checkpoint.py tests/operations/test_retries.py tests/workflow/test_retries.py tests/workflow/test_orphans.py

# On a Slurm of three nodes that the tests start themselves; every other one is left alone. Needs root
# and Debian's packages, which are installed; where that cannot be, one line says so and all is well.
test-slurm: install-test
	@$(RUN) OMP_NUM_THREADS=1 tests/slurm/install pytest tests/slurm -m "slurm and not slurm_all" -q

test-slurm-all: install-test
	@$(RUN) OMP_NUM_THREADS=1 tests/slurm/install pytest tests/slurm -m slurm -q

check: install-test
	$(RUN) ruff format --check .
	$(RUN) ruff check .
	$(RUN) snakefmt --check Snakefile workflow
	$(RUN) lint-imports
	$(RUN) mypy
	$(RUN) python workflow/lint.py

# From files at hand, without torch: make tables SUITE=config/demo.yaml
tables: install
	$(RUN) cmkd tables $(SUITE)

track: install
	$(RUN) cmkd track $(SUITE)

# Pages that are made from the configuration.
docs: install
	$(RUN) cmkd explain --all > docs/recipes.md.new && mv docs/recipes.md.new docs/recipes.md

bench: install-test
	$(RUN) OMP_NUM_THREADS=1 python benchmarks/frontend.py
	$(RUN) OMP_NUM_THREADS=1 python benchmarks/metrics.py
	$(RUN) python benchmarks/startup.py

# The DAG of thousands of runs, and a Slurm job's own start: a quarter of an hour.
bench-dag: install
	$(RUN) python benchmarks/dag.py

# What `cmkd plan` says against what fold 1 of ESC-10 takes: make bench-plan DATA=ESC-50-master
bench-plan: install
	@test -n "$(DATA)" || { echo "say where the recordings are: make bench-plan DATA=/path/to/ESC-50-master"; exit 2; }
	$(RUN) OMP_NUM_THREADS=1 python benchmarks/plan_check.py "$(DATA)"

install: $(VENV)/.installed

install-test: $(VENV)/.installed-test

$(VENV)/.installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "cmkd needs Python 3.11 or newer: install one, or name it, as in make demo PYTHON=/usr/bin/python3.12"; exit 2; }
	@test -x "$(BIN)/python" || $(PYTHON) -m venv "$(VENV)"
	@echo "Installing into $(VENV) (about 6 GB with CUDA; see README.md for the CPU builds)"
	$(PIP) -e .
	@"$(BIN)/python" -c 'import torchaudio, torchvision' || { echo "torch, torchaudio and torchvision in $(VENV) do not fit each other: remove $(VENV) and run make again, with no other torch on pip's path"; exit 2; }
	@touch "$@"

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) -e '.[test]'
	@touch "$@"

# Caches and the environment; results stay.
clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Everything that was made by the demo.
clean-results:
	rm -rf results/demo results/demo_multi .cmkd
