# Every target makes .venv when it is missing, installs what it needs, and then runs offline.
#   make demo    train zero-shot CLIP, CoOp and PLOT on the generated data; tables, pictures, output/demo/report.html;
#                then a little of it on photographs -> output/demo-photos
#   make demo-full   then the same on a small ViT, with GalLoP, SOT-GLP, PLOT on the places that matter, and PLOT++ in
#                its two stages -> output/demo-vit/report.html; and these methods on the ResNet -> output/demo-rn/report.html
#   make study   when does the transport matter? 1,089 runs on worlds with knobs, 50 minutes on two cores; goes on
#                where it stopped -> output/study (docs/transport.md)
#   make test    the test suite            make check   lint, types and tests
#   make test-oldest   the test suite with the oldest versions that setup.py allows (Python 3.10 or 3.11)
#   make bench   old against new, side by side          make docs    write the pages that are made from the code
#   make clean   remove output and caches (not .venv)
PYTHON ?= python3
VENV ?= .venv
DEMO ?= output/demo
DEMO_RUN = $(DEMO)/OP_N4/demo/PLOT/demo_16shots/nctx16_cscFalse_ctpend/seed1
DEMO_VIT ?= output/demo-vit
DEMO_RN ?= output/demo-rn
DEMO_PHOTOS ?= output/demo-photos
STUDY ?= output/study
BIN = $(VENV)/bin

OLDEST = .venv-oldest

.PHONY: demo demo-full study test test-oldest check lint types bench docs clean

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
	$(BIN)/python -m results compare $(DEMO)
	$(BIN)/python -m results calibration $(DEMO)
	$(BIN)/python -m results curve $(DEMO)
	$(BIN)/python -m results transport $(DEMO_RUN) --count 4
	$(BIN)/python -m results claims $(DEMO_RUN)
	$(BIN)/python -m results ablate $(DEMO_RUN)
	$(BIN)/python -m results map $(DEMO_RUN)
	$(BIN)/python -m results report $(DEMO)
	$(BIN)/python scripts/sweep.py --root data --output $(DEMO_PHOTOS) --dataset groceries --config photos --jobs 2 \
	    --trainers ZeroshotCLIP CoOp PLOT --shots 4 --seeds 1 DATALOADER.TRAIN_X.VIEWS 2
	$(BIN)/python -m results table $(DEMO_PHOTOS)
	$(BIN)/python -m results transport --count 4 \
	    $(DEMO_PHOTOS)/OP_N4/groceries/PLOT/photos_4shots/nctx16_cscFalse_ctpend/seed1

SWEEP = $(BIN)/python scripts/sweep.py --root data --dataset demo --jobs 2 --shots 1 4 16 --seeds 1 2 3
VIEWS = DATALOADER.TRAIN_X.VIEWS 8
BEST_PLACES = TRAINER.PLOT.LOCAL_PROJ True TRAINER.PLOT.TOPK "(4,)" TRAINER.PLOT.FUSE_GLOBAL true
TWO_STAGES = DATA=data OUTPUT=$(DEMO_VIT)/plotpp CFG=demo_vit SHOTS="1 4 16" PYTHON=$(BIN)/python

demo-full: demo
	$(SWEEP) --config demo_vit --output $(DEMO_VIT)/all --trainers ZeroshotCLIP CoOp PLOT GalLoP SOTGLP $(VIEWS)
	$(SWEEP) --config demo_vit --output $(DEMO_VIT)/best --trainers PLOT TRAINER.PLOT.DENSE vv $(BEST_PLACES) $(VIEWS)
	$(TWO_STAGES) sh scripts/plotpp/main_visiononly.sh demo 4 --jobs 2
	$(TWO_STAGES) sh scripts/plotpp/main_joint.sh demo 4 --jobs 2
	$(BIN)/python -m results table $(DEMO_VIT)
	$(BIN)/python -m results curve $(DEMO_VIT)
	for run in all:PLOT best:PLOT all:SOTGLP plotpp_joint:PLOTPP; do \
	    $(BIN)/python -m results transport --count 4 "$(DEMO_VIT)/$$run@16#1" || exit; done
	$(BIN)/python -m results report $(DEMO_VIT)
	$(SWEEP) --config demo --output $(DEMO_RN)/all --trainers ZeroshotCLIP CoOp PLOT GalLoP SOTGLP $(VIEWS)
	$(SWEEP) --config demo --output $(DEMO_RN)/best --trainers PLOT $(BEST_PLACES) $(VIEWS)
	$(BIN)/python -m results table $(DEMO_RN)
	$(BIN)/python -m results report $(DEMO_RN)

study: $(VENV)/.run
	$(BIN)/python -m study run --output $(STUDY) --jobs 2
	$(BIN)/python -m study analyse --output $(STUDY)

test: $(VENV)/.develop
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile

$(OLDEST)/.develop: setup.py
	$(PYTHON) -m venv --clear $(OLDEST)
	sed -n 's/^        "\([A-Za-z0-9_]*\)>=\([0-9.]*\)".*/\1==\2.*/p' setup.py > $(OLDEST)/constraints.txt
	$(OLDEST)/bin/python -m pip install --quiet --editable '.[test]' --constraint $(OLDEST)/constraints.txt
	touch $@

test-oldest: $(OLDEST)/.develop
	$(OLDEST)/bin/python -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile

lint: $(VENV)/.develop
	$(BIN)/ruff check .

types: $(VENV)/.develop
	$(BIN)/mypy

check: lint types test

bench: $(VENV)/.run
	$(BIN)/python -m benchmarks

docs: $(VENV)/.run
	$(BIN)/python scripts/write_docs.py

clean:
	rm -rf output build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -not -path './$(OLDEST)/*' -prune -exec rm -rf {} +
