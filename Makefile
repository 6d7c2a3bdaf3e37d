# gradflow: `make help` lists the targets. Everything is installed into .venv from requirements.lock.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
PROCESSES = $(shell echo $$(($$(nproc) + 1)))

.DEFAULT_GOAL := help
.PHONY: help install quickstart gallery test coverage lint type format bench lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## install gradflow and what it needs into .venv

$(INSTALLED): requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --requirements requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $(INSTALLED)

quickstart: $(INSTALLED) ## train the quickstart sweep, print its table, name its page
	$(BIN)/gradflow sweep +sweep=quickstart

gallery: $(INSTALLED) ## train the README's gallery (282 short runs), draw it into docs/gallery
	$(BIN)/python scripts/gallery.py

test: $(INSTALLED) ## run the tests, one process more than cores (which must name them alike), since some wait
	@$(BIN)/python -m compileall -q src
	PYTHONHASHSEED=0 OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist loadfile --no-loadscope-reorder --durations 40

coverage: $(INSTALLED) ## run the tests and say which lines and branches they reach
	PYTHONHASHSEED=0 OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist loadfile --no-loadscope-reorder --cov --cov-report=term:skip-covered

lint: $(INSTALLED) ## check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: $(INSTALLED) ## check types
	$(BIN)/mypy

format: $(INSTALLED) ## put the code in style
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

bench: $(INSTALLED) ## measure speed side by side with what people use today, about an hour; see benchmarks/RESULTS.md
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/limits.py
	$(BIN)/python benchmarks/training_step.py --width 128 --batch 128
	$(BIN)/python benchmarks/instruments.py
	$(BIN)/python benchmarks/packed.py --shell 3 --joblib 32
	for width in 16 32 64; do $(BIN)/python benchmarks/packed.py --width $$width --batch $$width --instruments none --shell 0; done
	$(BIN)/python benchmarks/batches.py
	$(BIN)/python benchmarks/recurrent_step.py --cells lstm lru mingru s4d --lengths 784 --repeats 3
	$(BIN)/python benchmarks/time_probe.py
	$(BIN)/python benchmarks/echo_state.py

lock: $(INSTALLED) ## resolve requirements.lock anew from pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --extra dev --upgrade \
	  --no-emit-index-url --no-emit-find-links --no-header --no-annotate \
	  --output-file requirements.lock pyproject.toml

clean: ## remove .venv and caches; runs and sweeps stay
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .coverage build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
