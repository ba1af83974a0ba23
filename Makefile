# Two commands set everything up on a fresh machine:
#   make demo    the main job, without torch: a photo and a sentence become a call on a simulated phone
#   make test    the tests
# For people who change octopus:
#   make check   formatting, lint, types, layers, tests        make format   mends formatting
#   make clean   removes the virtual environments and caches

PYTHON ?= python3
PIP = python -m pip install -qq --disable-pip-version-check
SOURCES = $(shell find octopus export functions -name '*.py' -o -path '*models*' -type f) setup.cfg pyproject.toml
METADATA = setup.cfg pyproject.toml

.DELETE_ON_ERROR:
.PHONY: demo test check format clean

demo: .venv-demo/ready
	@.venv-demo/bin/python demo.py

test: .venv-test/ready
	.venv-test/bin/python -m pytest

check: .venv-test/ready-dev
	.venv-test/bin/ruff format --check .
	.venv-test/bin/ruff check .
	.venv-test/bin/mypy
	.venv-test/bin/lint-imports --config setup.cfg
	.venv-test/bin/python -m pytest

format: .venv-test/ready-dev
	.venv-test/bin/ruff format .
	.venv-test/bin/ruff check --fix .

# Installed as a user installs it. scikit-image comes without its dependencies: only two photos in it are wanted.
.venv-demo/ready: $(SOURCES)
	@echo "octopus: setting up $(@D) (once, about a minute)" >&2
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/$(PIP) .
	@$(@D)/bin/$(PIP) --no-deps scikit-image
	@rm -rf build  # pip leaves it behind, and would install files from it that are gone from the tree
	@touch $@

.venv-test/ready: $(METADATA)
	@echo "octopus: setting up $(@D) (once, a few minutes: it fetches torch)" >&2
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/$(PIP) --editable '.[test]'
	@touch $@

.venv-test/ready-dev: .venv-test/ready
	@$(@D)/bin/$(PIP) --editable '.[dev]'
	@touch $@

clean:
	rm -rf .venv-demo .venv-test build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
