# Every target makes .venv when it is missing, installs what it needs, and then runs offline.
#   make demo    train zero-shot CLIP, CoOp and PLOT on the generated data; tables, pictures, output/demo/report.html
#   make test    the test suite            make check   lint, types and tests
#   make bench   old against new, side by side          make clean   remove output and caches (not .venv)
PYTHON ?= python3
VENV ?= .venv
DEMO ?= output/demo
DEMO_RUN = $(DEMO)/OP_N4/demo/PLOT/demo_16shots/nctx16_cscFalse_ctpend/seed1
BIN = $(VENV)/bin

.PHONY: demo test check lint types bench clean

$(VENV)/.run: setup.py
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.develop: setup.py
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[test,dev]'
	touch $@ $(VENV)/.run

demo: $(VENV)/.run
	$(BIN)/python scripts/sweep.py --root data --output $(DEMO) --dataset demo --config demo --jobs 2 \
	    --trainers ZeroshotCLIP CoOp PLOT --shots 1 4 16 --seeds 1 2 3
	$(BIN)/python -m results table $(DEMO)
	$(BIN)/python -m results curve $(DEMO)
	$(BIN)/python -m results transport $(DEMO_RUN) --count 4
	$(BIN)/python -m results claims $(DEMO_RUN)
	$(BIN)/python -m results ablate $(DEMO_RUN)
	$(BIN)/python -m results map $(DEMO_RUN)
	$(BIN)/python -m results report $(DEMO)

test: $(VENV)/.develop
	$(BIN)/python -m pytest

lint: $(VENV)/.develop
	$(BIN)/ruff check .

types: $(VENV)/.develop
	$(BIN)/mypy

check: lint types test

bench: $(VENV)/.run
	$(BIN)/python -m benchmarks

clean:
	rm -rf output build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
