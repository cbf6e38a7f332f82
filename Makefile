# `make` lists what there is. Two commands matter: `make run` and `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST ?= $(BIN)/python -m pytest
# What an installation may have besides: a file requirements-NAME.txt each. `make run EXTRAS="s3 documents"`.
KNOWN_EXTRAS := $(filter-out dev,$(patsubst requirements-%.txt,%,$(wildcard requirements-*.txt)))
comma := ,
override EXTRAS := $(sort $(subst $(comma), ,$(EXTRAS)))
UNKNOWN_EXTRAS := $(filter-out $(KNOWN_EXTRAS),$(EXTRAS))
ifneq ($(UNKNOWN_EXTRAS),)
$(error There is no extra named $(UNKNOWN_EXTRAS). There are: $(KNOWN_EXTRAS))
endif
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DEFAULT_GOAL := help
.PHONY: help run install install-dev test browser-test lint types format check bench bench-peers soak messages lock clean

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' Makefile

run: install ## Install, prepare the database, start the server (PORT, HOST, WORKERS, G4F_API_KEY, EXTRAS)
	@$(BIN)/python -m g4fsite init >/dev/null
	@$(BIN)/python manage.py firstrun
	@exec $(BIN)/python manage.py api

install: $(VENV)/installed $(EXTRAS:%=$(VENV)/installed-%) ## Make the virtual environment with pinned, hashed requirements

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "g4fsite needs Python 3.11 or newer; set PYTHON=python3.12, say."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "Python's venv module is missing. On Debian and Ubuntu: sudo apt install python3-venv"; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/installed: requirements.txt pyproject.toml | $(VENV)/bin/python
	@echo "Installing into $(VENV) (about half a minute, once)..."
	@$(BIN)/pip install --quiet --require-hashes -r requirements.txt
	@$(BIN)/pip install --quiet --no-deps --no-build-isolation --no-index -e .
	@touch $@

# An extra stays installed once it was asked for; without it nothing of it is loaded.
$(VENV)/installed-%: requirements-%.txt $(VENV)/installed
	@echo "Installing the extra $*..."
	@$(BIN)/pip install --quiet --require-hashes -r requirements-$*.txt
	@touch $@

install-dev: $(VENV)/installed-dev $(EXTRAS:%=$(VENV)/installed-%) ## Add the tools and clients that the tests use

$(VENV)/installed-dev: requirements-dev.txt $(VENV)/installed
	@echo "Installing test tools..."
	@$(BIN)/pip install --quiet --require-hashes -r requirements-dev.txt
	@touch $@

tests/clients/node/node_modules/.package-lock.json: tests/clients/node/package-lock.json
	@sh tests/clients/node/install.sh >/dev/null || echo "Without npm the Node client's tests are skipped."

test: install-dev tests/clients/node/node_modules/.package-lock.json ## Run the tests; services and clients that are reachable are used, the rest is named as skipped
	@$(PYTEST)

lint: install-dev ## Formatting, lint, import order
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports

types: install-dev ## mypy --strict, and TypeScript over the chat page where Node is
	@$(BIN)/python -m g4fsite init >/dev/null # mypy's Django plugin reads the settings
	@$(BIN)/mypy
	@sh scripts/types/check.sh

format: install-dev ## Write formatting and safe fixes
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

check: ## The whole gate, as CI runs it
	@bash .ci/run

bench: install ## Ours beside nginx and LiteLLM: CPU, latency, memory (benchmarks/README.md; BENCH="--reps 1")
	@$(BIN)/python benchmarks/run.py $(BENCH)

bench-peers: ## Install what `make bench` compares with: nginx by apt, LiteLLM by pip into benchmarks/.cache
	@sh benchmarks/peers/install.sh

soak: install-dev ## The fault rig in full: 10,000 requests on each database (tests/faults/README.md; SOAK=--help)
	@$(BIN)/python -m tests.faults.soak $(SOAK)

messages: install-dev ## Collect texts to be translated into */locale/*.po, and compile those (needs gettext)
	@for app in g4fsite conversations; do cd $$app && for domain in django djangojs; do \
		[ $$app-$$domain = g4fsite-djangojs ] || ../$(BIN)/python ../manage.py makemessages --verbosity 0 -d $$domain \
			-l de -l es -l fr -l zh_Hans --add-location file --no-wrap --ignore 'static/*/vendor/*'; done && \
		../$(BIN)/python ../manage.py compilemessages --verbosity 0; cd ..; done

lock: install-dev ## Pin and hash requirements*.in
	@$(BIN)/python scripts/lock.py

clean: ## Remove caches (not var/, which holds your data)
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .coverage .coverage.* htmlcov .hypothesis
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
