# Two commands set everything up, with only Python 3.11+ and make: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST_WORKERS ?= 3
# Some shells say that Python may keep no bytecode. Each of our many processes would compile all of
# its modules anew, and take twice as long to start.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test check lint types imports lock audit chaos mutants bench clean venv

help:  ## what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(STAMP)  ## rent a GPU, pay for it, lose the vendor and recover, all on this machine
	$(BIN)/gpu-renter demo

test: $(STAMP)  ## the tests
	$(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist worksteal

check: lint types imports test  ## everything that CI runs

lint: $(STAMP)  ## ruff's rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)  ## mypy, strict
	$(BIN)/mypy

imports: $(STAMP)  ## which package may import which
	$(BIN)/lint-imports

chaos: $(STAMP)  ## the long runs: crashes and faults, the fleet under fire, attacks, fuzzing
	$(BIN)/python -m bench.chaos
	$(BIN)/python -m bench.fleet
	REDTEAM=all LONG=1 $(BIN)/python -m pytest tests/redteam tests/graph/test_bounded_state.py tests/fleet \
		-n $(PYTEST_WORKERS) -q
	$(BIN)/python -m bench.fuzz

# mutmut is in no lock: it is installed when it is first asked for.
MUTANTS ?= 200
mutants: $(STAMP)  ## the money code, changed a little: do the tests notice? (MUTANTS=all SEED= MINUTES=)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[mutants]'
	$(BIN)/python -m bench.mutants --samples $(MUTANTS) $(if $(SEED),--seed $(SEED)) \
		$(if $(MINUTES),--minutes $(MINUTES))

bench: $(STAMP)  ## the measurements
	$(BIN)/python -m bench

venv: $(STAMP)  ## only set up .venv

# The lock is complete, so nothing is resolved anew (--no-deps): pip would ask for a hash of each extra.
# Without --no-compile the install takes half as long again, for modules that are never imported.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make PYTHON=python3.12 …" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile \
		--no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

# For every Python and platform that is supported, whatever this machine has: so nothing that pip is
# configured with here (an index, a folder of wheels) leaves a trace in it, and the hashes are those
# of the index. `make lock UPGRADE=` changes no version that still fits. rfc3987-syntax is left out:
# only the bill of materials asks for it, and where it is installed, every program that imports
# jsonschema (a vendor does, through x402) first builds a grammar for seconds.
UPGRADE ?= --upgrade
lock: $(STAMP)  ## pin every dependency anew, to the newest that fits
	$(BIN)/uv pip compile --quiet $(UPGRADE) --universal --python-version 3.11 --generate-hashes \
		--no-header --annotation-style line --no-strip-extras --no-emit-package agentic-gpu-renter \
		--no-emit-package rfc3987-syntax \
		--extra dev --extra local --extra studio --output-file requirements.lock pyproject.toml

# The bill of materials needs no network; the look-up of what is known to be vulnerable does.
audit: $(STAMP)  ## a bill of materials into build/, and what is known against what is locked
	mkdir -p build
	$(BIN)/cyclonedx-py requirements --output-format JSON --output-reproducible \
		--output-file build/sbom.cdx.json requirements.lock
	$(BIN)/pip-audit --disable-pip --require-hashes --requirement requirements.lock || \
		{ echo "pip-audit found something, or could not reach its database (it needs the network):" \
		"see above. The bill of materials is in build/sbom.cdx.json" >&2; exit 1; }

clean:  ## remove what was built, and the local services' data
	rm -rf $(VENV) .gpu-renter .langgraph_api build dist mutants *.egg-info \
		.pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
