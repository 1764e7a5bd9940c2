# make run    train experiment 1 (ARGS="--set epochs=1" and the like go to `fmnist run`)
# make test   run the tests      (ARGS="-k data" and the like go to pytest)
# make test-long  run the tests that make test leaves out: clusters, many commands at once (some minutes)
# make study  import the study that is shipped, to look at real results without training
# make bench  fmnist beside a plain PyTorch script, on this machine (half an hour)
# make check  formatting, lint, types and the fast tests, as before every commit

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
CONFIG ?= configs/exp1_dropout.yaml
STUDY  ?= study/fashion_mnist_cnn_tuning.jsonl.gz
ARGS   ?=
# A worker a core; the slow tests first, and two at a time, so that the workers end together
# (tests/conftest.py orders them).
PYTEST  = $(BIN)/python -m pytest -n auto --maxprocesses 8 --maxschedchunk=2

.PHONY: run test test-long check lint data study bench lock clean

run: $(VENV)/.ready data
	@echo "==> fmnist run $(CONFIG) $(ARGS)"
	@$(BIN)/fmnist run $(CONFIG) $(ARGS)

test: $(VENV)/.ready data
	@echo "==> pytest $(ARGS)"
	@$(PYTEST) $(ARGS)

test-long: $(VENV)/.ready data
	@echo "==> pytest -m long $(ARGS)"
	@$(PYTEST) -m long $(ARGS)

check: lint
	@echo "==> fast tests"
	@$(PYTEST) -m "not slow and not long" $(ARGS)

lint: $(VENV)/.ready
	@echo "==> formatting, lint, types"
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

bench: $(VENV)/.ready data
	@echo "==> benchmarks: leave the machine alone meanwhile"
	@for part in one exp1 six; do $(BIN)/python benchmarks/compare.py $$part $(ARGS) || exit 1; done

data: $(VENV)/.ready
	@echo "==> Fashion-MNIST"
	@$(BIN)/fmnist data --fetch

study: $(STUDY) $(VENV)/.ready
	@echo "==> fmnist import $(STUDY)"
	@$(BIN)/fmnist import $(STUDY)

$(STUDY):
	@echo "$@ is not here: no study is shipped; make run trains one, fmnist export writes it" >&2
	@exit 1

# uv installs the same locked packages in a tenth of pip's time. Where Python comes without the venv
# module, as on a bare Debian, virtualenv makes the environment.
$(VENV)/.ready: pyproject.toml requirements.lock
	@echo "==> setting up $(VENV): PyTorch and its CUDA libraries are 6 GB, once"
	@$(PYTHON) -m venv $(VENV) 2>/dev/null || { $(PYTHON) -m pip install --quiet --user virtualenv \
	    && $(PYTHON) -m virtualenv --quiet $(VENV); }
	@$(BIN)/python -m pip install --quiet uv
	@$(BIN)/uv pip install --python $(BIN)/python --compile-bytecode --require-hashes \
	    -r requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -e .
	@touch $@

# The lock names versions and hashes, and no registry: it works with any mirror.
lock: $(VENV)/.ready
	$(BIN)/uv pip compile --universal --generate-hashes --upgrade --no-header --no-annotate \
	    --group dev --extra ray --python-version 3.11 --quiet -o requirements.lock pyproject.toml

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
