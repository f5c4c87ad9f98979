# The two commands of the README: `make restore` and `make test`. Each sets up what it needs; a second call is quick.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: restore test check slow browser clean

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

clean:
	rm -rf $(VENV) restored
