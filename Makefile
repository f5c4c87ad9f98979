# The commands of the README: `make restore`, `make test` and `make docs`. Each sets up what it needs; a second call is quick.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: restore test check slow docs browser clean

restore: $(VENV)/.installed
	$(BIN)/invsolve restore examples/chelsea-masked.png --task inpaint --noise 0.01 -o restored --overwrite

# Tests in as many processes as there are cores, one thread each: small tensors do not share threads well.
test: check
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "not slow" -n auto --dist worksteal

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/python tests/lengths.py

slow: $(VENV)/.installed-dev
	$(BIN)/pytest -m slow

# The documentation site: docs/_build/html/index.html. Runs every example of the gallery; a warning is an error.
docs: $(VENV)/.installed-docs
	$(BIN)/python docs/make_reference.py
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html

# Chromium, for the tests of the app and of the leaderboard's page in a browser: by root, on Debian and its kin.
browser:
	command -v chromium || (apt-get update -q && apt-get install -q -y --no-install-recommends chromium)

$(VENV)/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "torch>=2.6" torchvision
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[docs]"
	touch $@

clean:
	rm -rf $(VENV) restored docs/_build docs/gallery docs/reference
