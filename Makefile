# Everything a newcomer needs: make demo, make test. Needs Python >= 3.11, make and git.
# make docs: the documentation, into build/docs.
# And for who changes the code: make lint, make test-all (with the slow tests), make mutate (faults that tests must see),
# make gpu (what a step takes on a GPU, and whether it is right there; make gpu ARGS=--tiny needs none).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What sweeps need, and what tests and pages need beside that.
PACKAGE := $(VENV)/package
READY := $(VENV)/ready
INSTALL := $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python
# Of make mutate: which faults are drawn.
SEED ?= 0
# Of make test-slow: files and folders; all if none is named.
SLOW ?=
# Of make gpu: benchmarks/gpu.py --help has them.
ARGS ?=
# A test process a core; the files go out in their order, so that the long ones do not come last.
PYTEST := $(BIN)/pytest --numprocesses auto --maxprocesses 8 --dist loadgroup --no-loadscope-reorder
# Slow tests wait more than they compute: for a time limit, a lost node, a lease.
CORES = $(shell getconf _NPROCESSORS_ONLN 2> /dev/null || echo 2)

# Of make vendored: the libraries in the page that `sweep report` writes.
VENDORED := analysis/report/vendored
ECHARTS ?= 6.1.0
TABULATOR ?= 6.5.3

.PHONY: demo docs docs-figures test test-slow test-all mutate gpu lint vendored clean
.DELETE_ON_ERROR:

demo: $(PACKAGE)
	$(BIN)/sweep demo --out runs/demo

# Every committed picture anew, and docs/pictures.json; launches the runs that are not in runs/docs.
docs-figures: $(READY)
	$(BIN)/python docs/pictures.py

test: $(READY)
	$(PYTEST) -m 'not slow'

test-slow: $(READY)
	$(PYTEST) --numprocesses $$(( $(CORES) + 1 )) -m slow $(SLOW)

test-all: $(READY)
	$(PYTEST)

# A warning is an error; so is a name in a docstring of the reference that leads nowhere.
docs: $(READY)
	$(BIN)/python -m sphinx -W -n --keep-going -q -b html docs build/docs
	@echo "look at build/docs/index.html"

mutate: $(READY)
	$(BIN)/python benchmarks/mutation.py --seed $(SEED)

gpu: $(READY)
	$(BIN)/python benchmarks/gpu.py $(ARGS)

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy trainers analysis sweep

# Fetches them anew from npm; vendored.json there says which they are, and a test compares the hashes.
vendored:
	rm -rf build/vendored && mkdir -p build/vendored
	cd build/vendored && npm pack --silent echarts@$(ECHARTS) zrender@$(ECHARTS) tabulator-tables@$(TABULATOR)
	cd build/vendored && for file in *.tgz; do mkdir "$${file%%-[0-9]*}" && tar -xzf "$$file" -C "$${file%%-[0-9]*}"; done
	cp build/vendored/echarts/package/dist/echarts.min.js $(VENDORED)/
	cp build/vendored/echarts/package/LICENSE $(VENDORED)/echarts.LICENSE
	cp build/vendored/echarts/package/NOTICE $(VENDORED)/echarts.NOTICE
	cp build/vendored/echarts/package/licenses/LICENSE-d3 $(VENDORED)/d3.LICENSE
	cp build/vendored/zrender/package/LICENSE $(VENDORED)/zrender.LICENSE
	cp build/vendored/tabulator-tables/package/dist/js/tabulator.min.js $(VENDORED)/
	cp build/vendored/tabulator-tables/package/dist/css/tabulator.min.css $(VENDORED)/
	cp build/vendored/tabulator-tables/package/LICENSE $(VENDORED)/tabulator.LICENSE
	cd $(VENDORED) && sha256sum *.js *.css

clean:
	rm -rf $(VENV) runs .pytest_cache .mypy_cache .ruff_cache

$(PACKAGE): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "make: needs Python 3.11 or newer, got $$($(PYTHON) --version); set PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check uv
	$(INSTALL) -e .
	@touch $@

$(READY): $(PACKAGE)
	$(INSTALL) -e '.[dev]'
	@touch $@
