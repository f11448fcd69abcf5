# Each target makes .venv if it is not there. With uv: see the README.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help demo serve studio notebooks test properties check format bench mutants soak clean

help:  ## Show this help.
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | expand -t 12

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "graph_voice needs Python 3.11 or newer: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
		{ echo "Python's venv is missing. On Debian or Ubuntu: apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

demo: $(READY)  ## Hear a whole call, without keys or a server. GRAPH=graphs/intake.py SEED=3
	$(BIN)/graph-voice demo $(or $(GRAPH),graphs/customer_service.py) --seed $(or $(SEED),0)

serve: $(READY)  ## Talk to a graph in the browser, and watch what it does. GRAPH=graphs/intake.py PORT=8484
	$(BIN)/graph-voice serve $(or $(GRAPH),graphs/customer_service.py) --port $(or $(PORT),8484)

studio: $(READY)  ## Serve the example graphs for LangGraph Studio, on this machine. PORT=2024
	$(BIN)/langgraph dev --no-browser --port $(or $(PORT),2024)

notebooks: $(READY)  ## Execute the notebooks and write their outputs. Names choose: ONLY=history
	$(BIN)/python scripts/notebooks.py $(ONLY)

test: $(READY)  ## Run the tests. In two processes: JOBS=2
	$(BIN)/python -m pytest $(if $(JOBS),-n $(JOBS) --dist loadfile)

properties: $(READY)  ## Look harder for exceptions to the rules: 10,000 examples each (EXAMPLES=...), and 500 whole calls.
	GRAPH_VOICE_EXAMPLES=$(or $(EXAMPLES),10000) $(BIN)/python -m pytest tests/core/history/test_rules.py \
		tests/core/history/test_reducers.py tests/core/secrets/test_secrets.py tests/livekit/convert/test_history_parity.py \
		tests/livekit/convert/test_converters.py tests/core/call/test_two_writers.py tests/core/call/test_random_graphs.py -q

check: $(READY)  ## Lint, format, types, and what may import what.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)  ## Format the code.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)  ## Measure (minutes) and write docs/benchmarks.md. QUICK=1: a minute, and only printed. ONLY=turns
	$(BIN)/python -m benchmarks $(if $(QUICK),--quick) $(foreach part,$(ONLY),--only $(part))

mutants: $(READY)  ## Break the code on purpose, and see which test notices. Made on demand: PACKAGE=graph_voice/turn MOST=50 SEED=0
ifdef PACKAGE
	$(BIN)/python scripts/make_mutants.py $(PACKAGE) --most $(or $(MOST),50) --seed $(or $(SEED),0) \
		$(if $(TESTS),--tests "$(TESTS)")
else
	$(BIN)/python scripts/mutants.py
endif

soak: $(READY)  ## Look for a call that can be broken: 10,000 barge-ins, 200 crashes, a report. OPTIONS="--seed 7 --quick"
	$(BIN)/python scripts/soak.py $(OPTIONS)

clean:  ## Remove what these targets made.
	rm -rf $(VENV) calls .langgraph_api .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
