# Every target builds .venv first when it is not there or pyproject.toml has changed.
METHOD  ?= recsys.mclrec
DATA    ?= ml-100k
SEEDS   ?= 1
TRIALS  ?= 20
STUDY   ?=
STORAGE ?=
WORKERS ?= 1
DEVICE  ?= auto
ARGS    ?=
PORT    ?= 5000
BENCH   ?= *
export TORCH PYTHON

BIN := .venv/bin
TRAIN = $(BIN)/nearfar train $(METHOD) data=$(DATA) device=$(DEVICE) $(ARGS) --seeds $(SEEDS) --workers $(WORKERS)
TUNE = $(BIN)/nearfar tune $(METHOD) data=$(DATA) device=$(DEVICE) $(ARGS) --trials $(TRIALS) --workers $(WORKERS)$(if $(STUDY), --study $(STUDY))$(if $(STORAGE), --storage $(STORAGE))
URI = $(or $(MLFLOW_TRACKING_URI),sqlite:///$(CURDIR)/mlruns/mlflow.db)

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all test-services reliability check coverage docs lock recsys tune-recsys graph tune-graph timeseries tune-timeseries calibration tune-calibration noisy-labels longtail tune-longtail hidden-classes objectives tune-objectives data compare profile ui bench clean

help: ## print this table
	@printf 'make <target> [METHOD=recsys.sasrec DATA=ml-100k SEEDS=3 WORKERS=2 DEVICE=auto ARGS="optim.lr=5e-4"]\n\n'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## build .venv with everything (TORCH=cpu or cu130 picks a PyTorch build, PYTHON an interpreter)
	@.ci/setup

demo: setup ## recommenders, encoders of a graph and of series, noisy labels, long tails, next to baselines (minutes, no GPU)
	$(BIN)/python -m nearfar.pipelines.demo

test: setup ## run the default tests, a process a core
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist worksteal

test-all: setup ## run every test, the slow ones included
	$(BIN)/python -m pytest -m 'not services'

test-services: setup ## run the tests that need PostgreSQL and a browser, installing both where that is possible
	@.ci/services
	$(BIN)/python -m pytest -m services tests/services

reliability: setup ## kill, stop, damage and resume everything, for every method; one table of what survived (half an hour; HYPOTHESIS_PROFILE=nightly for 2,000 examples)
	HYPOTHESIS_PROFILE=$${HYPOTHESIS_PROFILE:-ci} $(BIN)/python -m pytest -m 'row and not services' tests --reliability-report mlruns/artifacts/reliability.json

check: setup ## format, lint and types, then the tests of layout and style
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy common domains pipelines tests benchmarks
	$(BIN)/python -m pytest -q tests/quality

coverage: setup ## run the default tests and say which lines of common and domains they miss; at least 90 % are covered
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -q
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --include='common/*,domains/*' --fail-under=90

docs: setup ## build the documentation site in docs/_build; a warning is an error
	$(BIN)/python -m sphinx -W --keep-going --color -b html docs docs/_build

# PyTorch is left out, since its build depends on the machine, and with it what only its CUDA builds bring along.
lock: setup ## write tests/locks/requirements.txt anew: versions of everything but PyTorch, for `pip install --no-deps -r`
	uv=$$(command -v uv || echo $(BIN)/uv); $$uv pip compile --quiet --upgrade --universal --python-version 3.11 --extra all --group interop \
	  --no-header --no-annotate --no-emit-package torch --no-emit-package torchvision pyproject.toml --output-file tests/locks/requirements.txt
	sed -E -i "/^(cuda|nvidia|triton)[a-z0-9-]*==/d; /== 'emscripten'/d" tests/locks/requirements.txt

recsys: setup ## train a recommender (METHOD, DATA, SEEDS, WORKERS, DEVICE, ARGS)
	$(TRAIN)

tune-recsys: setup ## search the settings of a recommender (METHOD, DATA, TRIALS, WORKERS, STUDY, STORAGE, ARGS)
	$(TUNE)

# What is given on the command line wins.
graph tune-graph: METHOD = graph.pot
graph tune-graph: DATA = digits

graph: setup ## train node embeddings and certify them (METHOD=graph.contrast, DATA=cora, SEEDS, WORKERS, DEVICE, ARGS)
	$(TRAIN)

tune-graph: setup ## search the settings of a graph method (METHOD, DATA, TRIALS, WORKERS, STUDY, STORAGE, ARGS)
	$(TUNE)

timeseries tune-timeseries: METHOD = timeseries.autotcl
timeseries tune-timeseries: DATA = gunpoint

timeseries: setup ## train representations of series and test them (DATA=etth1 with ARGS=data_dir=..., SEEDS, WORKERS, DEVICE, ARGS)
	$(TRAIN)

tune-timeseries: setup ## search the settings of AutoTCL (METHOD, DATA, TRIALS, WORKERS, STUDY, STORAGE, ARGS)
	$(TUNE)

calibration tune-calibration: METHOD = calibration.rcal
calibration tune-calibration: DATA = digits

calibration: setup ## train a classifier on noisy, long-tailed labels (DATA=cifar10 ARGS="data_dir=... noise.rate=0.2", SEEDS, WORKERS, DEVICE)
	$(TRAIN)

tune-calibration: setup ## search the settings of RCAL on labels held out (METHOD, DATA, TRIALS, WORKERS, STUDY, STORAGE, ARGS)
	$(TUNE)

noisy-labels: setup ## one classifier on noisy labels of other domains' representations (ARGS="--data-dir DIR --seeds 5")
	$(BIN)/python -m nearfar.pipelines.noisy_labels $(ARGS)

longtail tune-longtail: METHOD = longtail.sbcl
longtail tune-longtail: DATA = superclass-digits

longtail: setup ## train representations of a long tail and look for hidden classes (DATA=cifar100 ARGS="data_dir=...", SEEDS, WORKERS, DEVICE)
	$(TRAIN)

tune-longtail: setup ## search the settings of SBCL on rows held out (METHOD, DATA, TRIALS, WORKERS, STUDY, STORAGE, ARGS)
	$(TUNE)

hidden-classes: setup ## what SupCon, balanced softmax and SBCL keep of merged classes of series and nodes (ARGS="--data-dir DIR --seeds 5")
	$(BIN)/python -m nearfar.pipelines.hidden_classes $(ARGS)

objectives: setup ## every objective in every domain with the settings found for it, three seeds (25 minutes; ARGS="--domains graph")
	$(BIN)/python -m nearfar.pipelines.objectives compare $(ARGS)

tune-objectives: setup ## search those settings, the same number of trials each (an hour and a half; goes on where it was; ARGS)
	$(BIN)/python -m nearfar.pipelines.objectives tune $(ARGS)

data: setup ## write the series that come with packages, and ETT tables of yours, where tsai looks (ARGS="--target . --data-dir DIR")
	$(BIN)/python -m nearfar.timeseries.layouts $(ARGS)

compare: setup ## compare all finished runs on a data set (METHOD names the domain, DATA, ARGS)
	$(BIN)/nearfar compare $(firstword $(subst ., ,$(METHOD)))/$(DATA) $(ARGS)

profile: setup ## record some training steps (METHOD, DATA, DEVICE, ARGS)
	$(BIN)/nearfar profile $(METHOD) data=$(DATA) device=$(DEVICE) $(ARGS)

ui: setup ## open the runs in MLflow's web page (PORT=5000), on this machine only
	$(BIN)/mlflow server --backend-store-uri $(URI) --host 127.0.0.1 --port $(PORT) --workers 1

bench: ## run the benchmarks (BENCH=infonce for one, ARGS); each prints both sides and their ratio
	@EXTRAS=bench .ci/setup
	@for file in benchmarks/$(BENCH).py; do echo "$(BIN)/python $$file $(ARGS)"; $(BIN)/python $$file $(ARGS) || exit 1; done

clean: ## remove caches and build products; runs and outputs stay
	rm -rf dist docs/_build docs/reference .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	find common domains pipelines tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
