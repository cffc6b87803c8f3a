# Two commands: `make run` shows the router at work, `make test` runs the tests.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --require-virtualenv --disable-pip-version-check -q --retries 10 --timeout 60
ARGS   ?=

.PHONY: run test lint lock bench clean

$(VENV)/run.stamp: locks/run.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("router needs CPython 3.11 or newer; set PYTHON=/path/to/python3.11") if sys.version_info < (3, 11) else None'
	@echo "setting up $(VENV) (about half a minute, once)"
	@$(BIN)/python -c 'import pip, sys; sys.exit(sys.prefix == sys.base_prefix)' 2>/dev/null || $(PYTHON) -m venv $(VENV)
	@$(PIP) install --require-hashes --only-binary=:all: -r locks/run.txt
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/dev.stamp: $(VENV)/run.stamp locks/dev.txt
	@$(PIP) install --require-hashes --only-binary=:all: -r locks/dev.txt
	@touch $@

run: $(VENV)/run.stamp            ## the daemon in demo form; make run ARGS="--for 30"
	@$(BIN)/router demo $(ARGS)

test: $(VENV)/dev.stamp           ## the test suite; make test ARGS="-k queue"
	@$(BIN)/python -m pytest -n auto --maxprocesses 8 $(ARGS) || { \
	  [ $$? = 1 ] && echo "once more, one at a time: what passes now fails by chance, which is a bug of its own" && \
	  $(BIN)/python -m pytest --last-failed --last-failed-no-failures none -vv $(ARGS); }

lint: $(VENV)/dev.stamp           ## style, types, layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

lock:                             ## new pins with hashes, no index lines (needs uv)
	@uv pip compile pyproject.toml --extra build --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -q -o locks/run.txt
	@uv pip compile pyproject.toml --extra build --extra dev --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -q -c locks/run.txt -o locks/dev.txt

clean:
	@rm -rf $(VENV) state .pytest_cache .mypy_cache .ruff_cache
