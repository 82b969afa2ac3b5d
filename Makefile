# StickyRoute. `make` lists what there is to do; a fresh machine needs only Python 3.11+ and make.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
HTTP   ?= 127.0.0.1:8080
IMAGE  ?= stickyroute:dev
BASE_IMAGE ?=
BENCH  ?=
SCALE  ?=
SOAK   ?=
INVARIANTS ?=

.DEFAULT_GOAL := help
.PHONY: help run test check e2e e2e-invariants image crds chart bench scale soak invariants differential \
  conformance applications fuzz lock format clean

help:  ## list the targets
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.ready: requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "StickyRoute needs Python 3.11 or newer; name it with PYTHON=python3.12" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
	  { echo "python3 -m venv failed; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

run: $(VENV)/.ready  ## run the product here, with three demo pods, on http://localhost:8080
	@exec $(BIN)/stickyroute demo --http $(HTTP)

test: $(VENV)/.ready  ## unit and component tests
	$(BIN)/python -m pytest

check: $(VENV)/.ready  ## ruff, mypy strict, import layers, fresh CRD, chart lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/unit/api -k "stale or fresh"
	bash deploy/lint.sh

e2e: $(VENV)/.ready  ## end-to-end tests on the cluster of KUBECONFIG, else on kind
	PYTHON=$(BIN)/python bash tests/e2e/kind.sh

e2e-invariants: $(VENV)/.ready  ## 10,000 sessions through random events on the cluster of KUBECONFIG, else on kind, 20 minutes
	STICKYROUTE_INVARIANTS=$${STICKYROUTE_INVARIANTS:-10000x50x900} STICKYROUTE_INVARIANTS_WRITE=docs/invariants-cluster.md \
	  PYTHON=$(BIN)/python bash tests/e2e/kind.sh -k test_every_invariant_holds_on_a_cluster

image:  ## build the container image with docker, podman or buildah
	@tool=$$(command -v docker || command -v podman || command -v buildah) || \
	  { echo "no docker, podman or buildah here" >&2; exit 1; }; \
	case $$tool in *buildah) build=bud;; *) build=build;; esac; \
	$$tool $$build $(if $(BASE_IMAGE),--build-arg BASE_IMAGE=$(BASE_IMAGE)) -t $(IMAGE) .

crds: $(VENV)/.ready  ## write the CRD from the models
	$(BIN)/python -m stickyroute_api.crd

chart: $(VENV)/.ready crds  ## write the chart's README and schema, check the chart and render it
	$(BIN)/python deploy/readme.py
	$(BIN)/python deploy/schema.py
	bash deploy/lint.sh

bench: $(VENV)/.ready  ## measure beside the peers that are installed, 20 minutes (BENCH=--install: bring them)
	$(BIN)/python -m bench $(BENCH)

scale: $(VENV)/.ready  ## agreement over 100,000 requests, 1,000,000 keys through a proxy, 4 minutes (SCALE="--write docs/scale.md")
	$(BIN)/python -m tests.scale $(SCALE)

soak: $(VENV)/.ready  ## load of every kind while pods come and go, 30 minutes (SOAK_MINUTES=5: shorter; SOAK=--shared: no latencies are judged)
	$(BIN)/python -m bench.soak $(SOAK)

invariants: $(VENV)/.ready  ## 10,000 sessions through random events in processes of this machine, 6 minutes (INVARIANTS=--short: fewer, and breaks that it must see)
	$(BIN)/python -m $(if $(filter --short,$(INVARIANTS)),pytest -q -s tests/invariants,tests.invariants --write docs/invariants.md $(INVARIANTS))

differential: $(VENV)/.ready  ## the corpus of odd messages beside HAProxy and nginx; writes docs/differential.md
	$(BIN)/python -m tests.differential

fuzz: $(VENV)/.ready  ## fuzz the readers of requests, answers and cookies for FUZZ_SECONDS (60)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/fuzz.txt
	$(BIN)/python -m tests.fuzz

conformance: .venv-conformance/.ready  ## Autobahn, REDbot and http-cache-tests with the proxy and without it; writes docs/conformance.md, 9 minutes (needs node)
	CONFORMANCE_NODE_MODULES=.venv-conformance/node_modules .venv-conformance/bin/python -m pytest tests/conformance -q -s --write docs/conformance.md

.venv-conformance/.ready: requirements/conformance.txt pyproject.toml
	@command -v node >/dev/null && command -v npm >/dev/null || \
	  { echo "make conformance needs node (18.11 or newer) and npm on PATH; on Debian: apt install nodejs npm" >&2; exit 1; }
	@node -e 'const [a, b] = process.versions.node.split("."); process.exit(Number(a < 18 || (a == 18 && b < 11)))' || \
	  { echo "make conformance needs node 18.11 or newer; this is $$(node --version)" >&2; exit 1; }
	@test -x .venv-conformance/bin/python || $(PYTHON) -m venv .venv-conformance
	.venv-conformance/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/conformance.txt
	.venv-conformance/bin/pip install --quiet --disable-pip-version-check --no-deps --editable .
	npm install --prefix .venv-conformance --no-save --no-audit --no-fund --ignore-scripts http-cache-tests@0.4.5
	@touch $@

applications: .venv-applications/.ready  ## real applications over two proxies and three pods, 3 minutes (needs chromium)
	.venv-applications/bin/python -m pytest tests/applications -q -s

.venv-applications/.ready: requirements/applications.txt pyproject.toml
	@command -v chromium >/dev/null || \
	  { echo "make applications needs chromium on PATH; on Debian: apt install chromium" >&2; exit 1; }
	@test -x .venv-applications/bin/python || $(PYTHON) -m venv .venv-applications
	.venv-applications/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/applications.txt
	.venv-applications/bin/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

lock:  ## pin the dependencies anew (needs uv)
	uv pip compile -q --upgrade --universal --python-version 3.11 --no-emit-index-url --generate-hashes --no-header \
	  pyproject.toml --all-extras --group dev -o requirements/dev.txt
	uv pip compile -q --universal --python-version 3.11 --no-emit-index-url --generate-hashes --no-header \
	  --constraint requirements/dev.txt pyproject.toml --extra operator --extra proxy --extra cli -o requirements/image.txt
	uv pip compile -q --universal --python-version 3.11 --no-emit-index-url --generate-hashes --no-header \
	  --constraint requirements/dev.txt --group fuzz -o requirements/fuzz.txt
	uv pip compile -q --universal --python-version 3.11 --no-emit-index-url --generate-hashes --no-header \
	  --constraint requirements/dev.txt pyproject.toml --all-extras --group conformance -o requirements/conformance.txt
	uv pip compile -q --universal --python-version 3.11 --no-emit-index-url --generate-hashes --no-header \
	  --constraint requirements/dev.txt pyproject.toml examples/*/requirements.txt --all-extras --group applications \
	  -o requirements/applications.txt

format: $(VENV)/.ready  ## format and mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove what was built and installed
	rm -rf $(VENV) .venv-conformance .venv-applications build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
