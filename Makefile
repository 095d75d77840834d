# Two commands do all the set-up on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUN ?= -m pytest
SERVERS := prometheus prometheus-alertmanager chromium libjemalloc2
ROOT := $(shell [ "$$(id -u)" = 0 ] || echo sudo) env DEBIAN_FRONTEND=noninteractive

.PHONY: help demo test quick long lint servers changelog clean

help: ## show this
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

$(BIN)/amm: pyproject.toml
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { $(ROOT) apt-get update -qq && \
	    $(ROOT) apt-get install -y -qq python3-venv >/dev/null; } # Debian's python3 comes without
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.dev: $(BIN)/amm pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[pytest,otlp]' --group dev
	@touch $@

demo: $(BIN)/amm ## a real workload under a small limit, for a minute
	$(BIN)/amm demo $(DEMO)

test: $(VENV)/.dev servers ## all tests but the slow ones
	$(BIN)/python $(RUN) -m "not slow" $(PYTEST)

quick: $(VENV)/.dev ## the unit tests
	$(BIN)/python -m pytest tests/unit $(PYTEST)

long: $(VENV)/.dev servers ## leaking releases, suites of large packages, alerts over many minutes, a newer promtool: an hour
	AMM_PROMTOOLS=$$($(BIN)/python tests/fixtures/debian_trixie.py promtool promtool) \
	    $(BIN)/python -m pytest tests/integration/test_promtool_rules
	$(BIN)/python -m pytest -m slow tests/e2e/test_real_leaks.py tests/e2e/test_alert_chain.py tests/e2e/test_pytest_real_suites.py

lint: $(VENV)/.dev ## what CI holds the code to
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

servers: ## the real Prometheus, Alertmanager and browser that tests use, from Debian's packages
	@missing=; for program in prometheus promtool prometheus-alertmanager amtool chromium; do \
	    command -v $$program >/dev/null || missing=1; done; \
	/sbin/ldconfig -p | grep -q libjemalloc || missing=1; [ -n "$$missing" ] || exit 0; \
	$(ROOT) apt-get update -qq && \
	$(ROOT) apt-get install -y -qq --no-install-recommends $(SERVERS) >/dev/null

changelog: $(VENV)/.dev ## what the next release will say
	$(BIN)/towncrier build --draft --version next

clean: ## remove the environment
	rm -rf $(VENV) build dist
