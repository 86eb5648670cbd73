# make demo and make test work on a fresh machine with Python 3.11+ and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OPENVINO := .venv-openvino
PLUGINS := .venv-plugins
FUZZ := .venv-fuzz
EMULATED := .emulated
FUZZ_SECONDS ?= 300
PIP_INSTALL := python -m pip --disable-pip-version-check install --quiet
PIP := $(BIN)/$(PIP_INSTALL) --constraint constraints.txt

# Nothing of a package is run when it is installed: onnxruntime-node's script would fetch CUDA.
NPM_CI := npm ci --ignore-scripts --no-audit --no-fund --silent
PORT ?= 8000
CHROMIUM ?= /usr/bin/chromium
# The header is the system's or else that of Debian 13, the library that of Python's onnxruntime.
SYSTEM_HEADER := $(wildcard /usr/include/onnxruntime/onnxruntime_c_api.h)
ORT_INCLUDE ?= $(if $(SYSTEM_HEADER),$(dir $(SYSTEM_HEADER)),$(CURDIR)/.onnxruntime/header/usr/include/onnxruntime)
ORT_LIBRARY ?= $(shell $(BIN)/python -c 'import onnxruntime, pathlib as p; print(*p.Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so*"))')

.PHONY: demo test test-openvino test-plugins test-arm64 fuzz lint bench bench-report docs conformance clean web test-web test-node test-c chromium

demo: $(VENV)/.user
	$(BIN)/w2v-edge demo --force

# One thread a worker: workers that each took all cores would only wait for each other.
test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

# onnxruntime-openvino and onnxruntime are one module: a venv of its own, without PyTorch. An export
# in bf16 needs both: it finds the module before that of its own venv.
test-openvino: $(VENV)/.dev $(OPENVINO)/.ready
	$(BIN)/python -m tests.openvino.bundles $(OPENVINO)/bundles
	W2V_EDGE_OPENVINO_BUNDLES=$(OPENVINO)/bundles $(OPENVINO)/bin/python -m pytest tests/openvino
	PYTHONPATH=$(CURDIR)/$(OPENVINO)/alone $(BIN)/python -m pytest tests/export/test_bfloat16.py

# Plugin providers beside the usual onnxruntime, in a venv of their own, without PyTorch. WebGPU needs a
# Vulkan driver, and is skipped without one.
test-plugins: $(VENV)/.dev $(PLUGINS)/.ready
	$(BIN)/python -m tests.openvino.bundles $(PLUGINS)/bundles
	W2V_EDGE_OPENVINO_BUNDLES=$(PLUGINS)/bundles $(PLUGINS)/bin/python -m pytest tests/plugins

# Emulated ARM64 and older x86 processors: needs x86 and Debian's apt, no root. Installs nothing.
test-arm64: $(VENV)/.dev
	$(BIN)/python -m tests.emulated.prepare $(EMULATED)
	PYTHONPATH=$(CURDIR) $(BIN)/python -m tests.emulated.bundles $(EMULATED)/bundles
	W2V_EDGE_EMULATED=$(EMULATED) $(BIN)/python -m pytest -n auto tests/emulated

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

web: $(VENV)/.user export/apps/web/node_modules build/tiny-fp32 build/tiny-int8
	$(BIN)/w2v-edge serve build/tiny-fp32 build/tiny-int8 --port $(PORT) --reports build/reports

test-web: chromium export/apps/web/node_modules $(VENV)/.dev
	CHROMIUM='$(CHROMIUM)' OMP_NUM_THREADS=1 $(BIN)/python -m pytest -s tests/apps/test_web.py

test-node: export/apps/node/node_modules $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/apps/test_node.py

test-c: $(VENV)/.dev
	@test -f '$(ORT_INCLUDE)/onnxruntime_c_api.h' || $(BIN)/python -m tests.apps.header .onnxruntime || true
	@$(MAKE) --no-print-directory -C export/apps/c needed ORT_INCLUDE='$(ORT_INCLUDE)' ORT_LIBRARY='$(ORT_LIBRARY)'
	ORT_INCLUDE='$(ORT_INCLUDE)' ORT_LIBRARY='$(ORT_LIBRARY)' OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/apps/test_c.py tests/apps/test_c_bench.py

bench: $(VENV)/.dev
	$(PIP) --group bench
	$(BIN)/python -m bench.peers

# Tables and pictures of README.md, docs/ and the model card, from bench/results.
bench-report: $(VENV)/.dev
	$(BIN)/python -m bench.report

# The pages of docs/ with the reference, as build/docs; a broken link is an error.
docs: $(VENV)/.user
	$(PIP) --group docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

# The matrix of conformance, from what the tests of checkpoints compare.
conformance: $(VENV)/.dev
	mkdir -p build
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal tests/checkpoints \
		-o junit_family=xunit1 --junitxml=build/conformance.xml
	$(BIN)/python -m bench.conformance --tests build/conformance.xml

# Readers of files from strangers, with atheris, in an environment without torch.
fuzz: $(FUZZ)/.ready
	for name in manifest npz graph audio; do \
	    $(FUZZ)/bin/python tests/fuzz/run.py $$name -max_total_time=$(FUZZ_SECONDS) || exit 1; \
	done

clean:
	rm -rf $(VENV) $(OPENVINO) $(PLUGINS) $(FUZZ) $(EMULATED) .onnxruntime .venv-floor .venv-gpu export/apps/*/node_modules \
		export/apps/c/build tests/fuzz/finds tests/fuzz/grown demo dist build \
		.pytest_cache .mypy_cache .ruff_cache .hypothesis

build/tiny-%: | $(VENV)/.user
	mkdir -p build
	$(BIN)/w2v-edge export w2v_edge/data/tiny/tiny.pt --target web --precision $* $(if $(filter int8,$*),--require-speedup 0) -o $@

chromium:
	@test -x '$(CHROMIUM)' || { echo 'error: no Chromium at $(CHROMIUM); apt-get install chromium, or give CHROMIUM' >&2; exit 1; }

export/apps/%/node_modules: export/apps/%/package-lock.json
	@command -v npm >/dev/null || { echo 'error: no npm; install Node 20.12 or newer' >&2; exit 1; }
	$(NPM_CI) --prefix export/apps/$*
	touch $@

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip --disable-pip-version-check install --quiet --upgrade 'pip>=25.1'

$(VENV)/.user: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) --editable '.[export,cpu,hub,report]'
	touch $@

$(VENV)/.dev: $(VENV)/.user
	$(PIP) --group dev
	touch $@

$(OPENVINO)/.ready: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m venv $(OPENVINO)
	$(OPENVINO)/bin/$(PIP_INSTALL) --constraint constraints.txt --editable '.[openvino,cli]' \
		pytest hypothesis
	$(OPENVINO)/bin/$(PIP_INSTALL) --constraint constraints.txt --no-deps --target $(OPENVINO)/alone \
		onnxruntime-openvino
	touch $@

$(PLUGINS)/.ready: $(BIN)/python pyproject.toml constraints.txt Makefile
	$(BIN)/python -m venv $(PLUGINS)
	$(PLUGINS)/bin/$(PIP_INSTALL) --constraint constraints.txt --editable '.[cpu,cli]' \
		onnxruntime-ep-openvino onnxruntime-ep-webgpu onnxruntime-qnn pytest hypothesis
	touch $@

$(FUZZ)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(FUZZ)
	$(FUZZ)/bin/$(PIP_INSTALL) --upgrade 'pip>=25.1'
	$(FUZZ)/bin/$(PIP_INSTALL) --constraint constraints.txt --group fuzz
	touch $@
