# make demo        make .venv, run the main job on the synthetic cohort, open the review app (APP=0 stops before it)
# make test        make .venv with the test extras, run every test, one process per core
# make test-heavy  the tests that take minutes: attacks against known defences, localisation, small trainings
# make test-faults the fault tests with their large counts (kills, races, outages); takes long
# make check       format, lint, types, layers
# make benchmarks  print the measured ratios that the README states
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
APP ?= 1
OUT ?= workspace/demo

.PHONY: demo test test-heavy test-faults check benchmarks wheel clean
.DELETE_ON_ERROR:

# torch goes in first and pinned, so that no package pulls a CUDA build onto a CPU machine.
$(VENV)/torch.done: constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	@touch $@

$(VENV)/run.done: $(VENV)/torch.done pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	@touch $@

$(VENV)/test.done: $(VENV)/run.done
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	@touch $@

demo: $(VENV)/run.done
	$(BIN)/workbench demo --out $(OUT) $(if $(filter 0,$(APP)),--no-app,)

# One thread per worker: two processes of two threads each on two cores wait for each other most of the time.
test: $(VENV)/test.done
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

test-heavy: $(VENV)/test.done
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto -m 'heavy and not faults'

test-faults: $(VENV)/test.done
	$(BIN)/python -m pytest -m faults

check: $(VENV)/test.done
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

benchmarks: $(VENV)/test.done
	for script in tests/benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

wheel: $(VENV)/test.done
	$(BIN)/python -m build --wheel

clean:
	rm -rf dist build workspace .mypy_cache .ruff_cache .pytest_cache
