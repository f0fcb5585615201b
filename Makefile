# Everything a newcomer needs: make demo, make test. Needs Python >= 3.11, make and git.
# And for who changes the code: make lint, make test-all (with the slow tests), make mutate (faults that tests must see),
# make gpu (what a step takes on a GPU, and whether it is right there; make gpu ARGS=--tiny needs none).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
# Of make mutate: which faults are drawn.
SEED ?= 0
# Of make gpu: benchmarks/gpu.py --help has them.
ARGS ?=
# A test process a core; the files go out in their order, so that the long ones do not come last.
PYTEST := $(BIN)/pytest --numprocesses auto --maxprocesses 8 --dist loadgroup --no-loadscope-reorder
# Slow tests wait more than they compute: for a time limit, a lost node, a lease.
CORES = $(shell getconf _NPROCESSORS_ONLN 2> /dev/null || echo 2)

.PHONY: demo docs-figures test test-slow test-all mutate gpu lint clean
.DELETE_ON_ERROR:

demo: $(READY)
	$(BIN)/sweep launch configs/demo.yaml --out runs/demo
	$(BIN)/sweep figures runs/demo
	@echo "look at runs/demo/figures/accuracy_ratio.png"

# Every committed picture anew, and docs/pictures.json; launches the runs that are not in runs/docs.
docs-figures: $(READY)
	$(BIN)/python docs/pictures.py

test: $(READY)
	$(PYTEST) -m 'not slow'

test-slow: $(READY)
	$(PYTEST) --numprocesses $$(( $(CORES) + 1 )) -m slow

test-all: $(READY)
	$(PYTEST)

mutate: $(READY)
	$(BIN)/python benchmarks/mutation.py --seed $(SEED)

gpu: $(READY)
	$(BIN)/python benchmarks/gpu.py $(ARGS)

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy trainers analysis sweep

clean:
	rm -rf $(VENV) runs .pytest_cache .mypy_cache .ruff_cache

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "make: needs Python 3.11 or newer, got $$($(PYTHON) --version); set PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -e '.[dev]'
	@touch $@
