# Everything a person calls. Each target makes what it needs in .venv; only Python 3.11+ and make must be there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LIGHT := .venv-answering
PEERS := .venv-bench
# Real pictures and weights for the tests that want them; the others skip and say so.
ifneq ($(wildcard ../shared/data),)
export RESIGHT_SHARED_DATA ?= $(abspath ../shared)
endif

# What `make bench` runs, in this order; `make bench ONLY=latency` runs one.
ONLY ?= train_step profile_step data_loading latency predict_folder cold_start growth cam_cost
BENCHES = $(ONLY:%=benchmarks/%.py)

.PHONY: demo test check soak bench format clean help

help:
	@echo "make demo    the whole way in about a minute, on real digits"
	@echo "make test    all tests (the long ones are in 'make soak')"
	@echo "make check   style, types, architecture"
	@echo "make soak    long fault and load runs"
	@echo "make bench   measurements against other tools, an hour or so on an idle machine; ONLY=latency for one"
	@echo "make format  let ruff rewrite the code's layout"

# The full environment: training half and tools, at the pinned versions.
$(VENV)/.ready: pyproject.toml constraints.txt requirements-dev.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch torchvision
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,tensorboard,tune,serve,parquet,int8,adapt]'
	touch $@

# The answering half alone, as `pip install resight` gives it: no PyTorch. Reinstalled when the code changes.
$(LIGHT)/.ready: pyproject.toml constraints.txt $(shell find src -name '*.py')
	$(PYTHON) -m venv $(LIGHT)
	$(LIGHT)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --force-reinstall --no-deps .
	$(LIGHT)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt .
	touch $@

# The other tools that benchmarks measure against, with the answering half beside them.
$(PEERS)/.ready: pyproject.toml constraints.txt benchmarks/requirements.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch torchvision
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -r benchmarks/requirements.txt
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

demo: $(VENV)/.ready
	$(BIN)/resight demo

test: $(VENV)/.ready $(LIGHT)/.ready
	RESIGHT_ANSWERING_PYTHON=$(abspath $(LIGHT))/bin/python $(BIN)/python -m pytest

check: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

soak: $(VENV)/.ready
	$(BIN)/python -m pytest -m soak -s

bench: $(VENV)/.ready $(LIGHT)/.ready $(PEERS)/.ready
	$(foreach name,$(ONLY),$(if $(wildcard benchmarks/$(name).py),,$(error there is no benchmark '$(name)')))
	set -e; for script in $(BENCHES); do \
		RESIGHT_ANSWERING_PYTHON=$(abspath $(LIGHT))/bin/python $(BIN)/python $$script; \
	done
	$(BIN)/python benchmarks/report.py

format: $(VENV)/.ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(LIGHT) $(PEERS) build dist
