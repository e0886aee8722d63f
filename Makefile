# make demo: train, search, score and report the digits study.   make test: all checks.
PYTHON ?= $(firstword $(foreach p,python3.13 python3.12 python3.11 python3,$(if $(shell $(p) -c 'import sys; print(sys.version_info >= (3, 11) or "")' 2>/dev/null),$(p))))
VENV ?= .venv
BIN := $(VENV)/bin
WORKDIR ?= runs/digits
WORKERS ?= 2

.PHONY: help demo test lint clean

help:
	@echo 'make demo   the digits study: about 12 minutes on 2 cores, report in $(WORKDIR)/report.html'
	@echo 'make test   style, laws and tests'
	@echo 'make lint   style only'
	@echo 'make clean  remove the environment (runs/ stays)'

# constraints.txt pins every package, for Python 3.11, as tested; other versions resolve freely.
$(VENV)/.installed: requirements.txt constraints.txt
	@test -n '$(PYTHON)' || { echo 'Python 3.11 or newer is needed: make PYTHON=/path/to/python' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt $(call pins)
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt $(call pins)
	touch $@

pins = $$($(BIN)/python -c 'import sys; print("-c constraints.txt" if sys.version_info[:2] == (3, 11) else "")')

demo: $(VENV)/.installed
	$(BIN)/python -m autoguide_jax study --config=configs/digits.py --workdir=$(WORKDIR)
	@echo 'report: $(WORKDIR)/report.html'

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/shellcheck -x .ci/run launch/*.sh

test: lint
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

clean:
	rm -rf $(VENV)
