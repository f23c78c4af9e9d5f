# The contributor's whole interface. Each target sets up what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check
# So that processes start faster from the first on, also where PYTHONDONTWRITEBYTECODE keeps them from doing it.
COMPILE := $(BIN)/python -m compileall -q bus reactor
INSTALLED := $(VENV)/.installed
STAMP := $(VENV)/.installed-dev
SALT_VENV := .venv-salt

.PHONY: run test coverage lint bench bench-salt soak docs clean
.DEFAULT_GOAL := run

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(INSTALLED): pyproject.toml | $(BIN)/python
	@echo "setting up $(VENV) (once)"
	@$(PIP) --editable .
	@$(COMPILE)
	@touch $@

$(STAMP): pyproject.toml | $(BIN)/python
	@echo "setting up $(VENV) with what tests, lint and docs need (once)"
	@$(PIP) --editable '.[dev]'
	@$(COMPILE)
	@touch $(INSTALLED) $@

run: $(INSTALLED)
	@exec $(BIN)/reactor up --rules examples/reactors --file-roots examples/reactors/05-custom-module/files

test: $(STAMP)
	@$(BIN)/python -m tests.run

coverage: $(STAMP)
	@COVER_PROCESSES=subprocess $(BIN)/python -m tests.run

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tests/lint_imports.py

bench: $(STAMP)
	@$(BIN)/python -m tests.benchmarks

# Real Salt, never part of ours, in an environment of its own; nothing but the package index.
$(SALT_VENV)/.installed:
	@echo "setting up $(SALT_VENV) with Salt from the package index (once)"
	@$(PYTHON) -m venv $(SALT_VENV)
	@$(SALT_VENV)/bin/pip install --quiet --disable-pip-version-check 'salt>=3007,<3009'
	@touch $@

bench-salt: $(STAMP) $(SALT_VENV)/.installed
	@$(BIN)/python -m tests.benchmarks.salt

soak: $(STAMP)
	@REACTOR_SOAK=1 $(BIN)/python -m pytest tests/integration -s --timeout 3600

docs: $(STAMP)
	$(BIN)/sphinx-build -q -W -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

clean:
	rm -rf $(VENV) $(SALT_VENV) docs/_build .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage*
