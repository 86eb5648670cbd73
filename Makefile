# make demo and make test work on a fresh machine with Python 3.11+ and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OPENVINO := .venv-openvino
FUZZ := .venv-fuzz
FUZZ_SECONDS ?= 300
PIP_INSTALL := python -m pip --disable-pip-version-check install --quiet
PIP := $(BIN)/$(PIP_INSTALL) --constraint constraints.txt

.PHONY: demo test test-openvino fuzz lint bench clean

demo: $(VENV)/.user
	$(BIN)/w2v-edge demo

# One thread a worker: workers that each took all cores would only wait for each other.
test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

# onnxruntime-openvino and onnxruntime are one module: a venv of its own, without PyTorch.
test-openvino: $(VENV)/.dev $(OPENVINO)/.ready
	$(BIN)/python -m tests.openvino.bundles $(OPENVINO)/bundles
	W2V_EDGE_OPENVINO_BUNDLES=$(OPENVINO)/bundles $(OPENVINO)/bin/python -m pytest tests/openvino

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.dev
	$(PIP) --group bench
	$(BIN)/python -m bench.peers

# Readers of files from strangers, with atheris, in an environment without torch.
fuzz: $(FUZZ)/.ready
	for name in manifest npz graph audio; do \
	    $(FUZZ)/bin/python tests/fuzz/run.py $$name -max_total_time=$(FUZZ_SECONDS) || exit 1; \
	done

clean:
	rm -rf $(VENV) $(OPENVINO) $(FUZZ) .venv-floor tests/fuzz/finds tests/fuzz/grown demo dist build \
		.pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip --disable-pip-version-check install --quiet --upgrade 'pip>=25.1'

$(VENV)/.user: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) --editable '.[export,cpu,report]'
	touch $@

$(VENV)/.dev: $(VENV)/.user
	$(PIP) --group dev
	touch $@

$(OPENVINO)/.ready: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m venv $(OPENVINO)
	$(OPENVINO)/bin/$(PIP_INSTALL) --constraint constraints.txt --editable '.[openvino,cli]' \
		pytest hypothesis
	touch $@

$(FUZZ)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(FUZZ)
	$(FUZZ)/bin/$(PIP_INSTALL) --upgrade 'pip>=25.1'
	$(FUZZ)/bin/$(PIP_INSTALL) --constraint constraints.txt --group fuzz
	touch $@
