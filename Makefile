# make demo   set everything up and run the main job on the embedded defaults
# make test   set everything up and pass the tests, or some: ARGS="tests/unit -x"
# make check  lint, types, import rules
# make bench  measure, all or some: ARGS="exports loading" (see docs/performance.md)
# make lock   resolve the dependencies anew

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := src tests benchmarks

# The files in their order, so that the many short ones at the end fill both processes.
IN_TWO := --numprocesses 2 --dist loadfile --no-loadscope-reorder

.PHONY: demo test check format bench lock clean
.DELETE_ON_ERROR:

demo: $(VENV)/run
	$(BIN)/segexport demo

test: $(VENV)/dev
	$(BIN)/python -m pytest $(or $(ARGS),$(IN_TWO))

check: $(VENV)/dev
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/dev
	$(BIN)/ruff check --fix-only $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

bench: $(VENV)/dev
	$(BIN)/python benchmarks/run.py $(ARGS)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "segexport needs Python 3.11 or newer; name one with: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Exactly the locked versions, checked against their hashes; then the package itself,
# editable, built with the locked build tool.
$(VENV)/run: $(VENV)/bin/python requirements/run.txt pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/run.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/dev: $(VENV)/bin/python requirements/dev.txt pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(VENV)/run $@

COMPILE := uv pip compile --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-header --no-annotate --quiet --upgrade pyproject.toml

lock:
	$(COMPILE) --group build --output-file requirements/run.txt
	$(COMPILE) --group dev --output-file requirements/dev.txt

clean:
	rm -rf $(VENV) .segexport dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
