# Two commands on a fresh machine: `make run` and `make test`. Python >= 3.11, its venv and pip are enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
BROWSER := $(VENV)/.browser

.PHONY: help run test test-ray test-browser check format bench loads million streams real gate-e2e clean

help:
	@echo "make run     the whole job on the embedded mock server: prompts in, answers and a report out"
	@echo "make test    all tests; WORKERS=2 has every load of theirs use two processes"
	@echo "make test-browser  the HTML pages in a real headless Chromium, and their pictures in docs/images"
	@echo "make test-ray  run --ray on a Ray cluster of this machine (installs the extra: 240 MB; about 3 minutes)"
	@echo "make check   format, lint, types, then all tests (what CI runs)"
	@echo "make format  mend format and what lint can mend"
	@echo "make bench   our speed against a plain openai-SDK script, in one run, as ratios"
	@echo "make loads   what this machine carries: streams, tokens a second, workers, and how right the times are"
	@echo "make million a million prompts: sent, resumed, reported, exported; memory and times (20 minutes and more)"
	@echo "make streams 5,000 slow streams at once, in under 1 GB"
	@echo "make real    the job against a real model server on this machine (downloads 127 MB)"
	@echo "make gate-e2e 20 A/A gates and 10 slowed ones on the mock: about 20 minutes; QUICK=1 for a look"
	@echo "make clean   remove the virtual environment and what was made"

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Streamgauge needs Python 3.11 or newer; name one: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable . --group dev
	@touch $(READY)

run: $(READY)
	@sh examples/demo.sh $(BIN)

test: $(READY)
	$(if $(WORKERS),STREAMGAUGE_TEST_WORKERS=$(WORKERS)) $(BIN)/python -m pytest --numprocesses auto --dist worksteal

$(BROWSER): $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group browser
	@sh tests/browser/chromium.sh
	@touch $(BROWSER)

test-browser: $(BROWSER)
	$(BIN)/python -m pytest tests/browser
	$(BIN)/python -m tests.browser.pictures

test-ray: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[ray]'
	$(BIN)/python -m pytest tests/on_ray/cluster.py

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(MAKE) --no-print-directory test

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY)
	$(BIN)/python -m bench

loads: $(READY)
	$(BIN)/python -m bench.loads

million: $(READY)
	$(BIN)/python -m bench.million

streams: $(READY)
	$(BIN)/python -m bench.streams

real: $(READY)
	$(BIN)/python -m bench.real

gate-e2e: $(READY)
	$(BIN)/python -m bench.gate $(if $(QUICK),--quick)

clean:
	rm -rf $(VENV) .real .bench build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
