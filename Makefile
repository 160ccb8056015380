# Two commands do everything on a machine with Python and pip alone: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test slow zoo coverage-pruning lint types layers typing-links check clean

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[cpu,tvm,zoo,dev]'
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/python -m lwc demo

test: $(STAMP)
	$(BIN)/python -m pytest

slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

zoo: $(STAMP)
	$(BIN)/python -m pytest -m zoo

coverage-pruning: $(STAMP)
	$(BIN)/python -m pip install --quiet -e '.[coverage]'
	$(BIN)/python tests/benchmarks/coverage_pruning.py

lint: $(STAMP)
	$(BIN)/ruff check .

typing-links:
	mkdir -p build/typing/lwc
	for d in compiler passes backends models; do ln -sfn ../../../$$d build/typing/lwc/$$d; done
	for f in lwc/*.py lwc/py.typed; do ln -sfn ../../../$$f build/typing/$$f; done

types: $(STAMP) typing-links
	$(BIN)/mypy -p lwc

layers: $(STAMP) typing-links
	cd build/typing && $(abspath $(BIN))/lint-imports --config $(CURDIR)/pyproject.toml

check: lint types layers test

clean:
	rm -rf $(VENV) build *.egg-info
