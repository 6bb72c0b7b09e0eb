# Setpoint. Needs Python 3.11 or newer and make; everything else goes into .venv.
PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8000
DATA ?= setpoint-data
JOBS ?= 2

BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: install demo serve test check audit format bench bench-rules bench-serving soak openapi lock clean

install: $(INSTALLED)

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and f"Setpoint needs Python 3.11 or newer, this is {v.major}.{v.minor}: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --requirement requirements.lock
	@$(BIN)/python -m compileall -qq -j 0 .venv/lib || true  # on all cores; pip would use one
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(INSTALLED)  ## trains, fits, publishes, serves and predicts; ONCE=1 stops after the last answer
	$(BIN)/python -m service.demo --port $(PORT) $(if $(ONCE),--once)

serve: $(INSTALLED)
	$(BIN)/setpoint serve --host $(HOST) --port $(PORT) --data $(DATA)

test: $(INSTALLED)
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 8

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@if [ -x $(BIN)/hadolint ]; then $(BIN)/hadolint docker/Dockerfile; else echo "hadolint is not there: Dockerfile not linted"; fi

# Asked first whether the index tells of vulnerabilities at all: a mirror may not, and then nothing would be found.
audit: $(INSTALLED)  ## known vulnerabilities of what is installed
	@if $(BIN)/python -c 'import json, urllib.request as web; \
	json.load(web.urlopen("https://pypi.org/pypi/jinja2/2.4.1/json", timeout=10))["vulnerabilities"][0]' 2>/dev/null; \
	then $(BIN)/pip-audit --local --skip-editable --progress-spinner off; \
	else echo "pypi.org does not tell of vulnerabilities here: they were not asked for"; fi

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(INSTALLED)  ## each number beside its peer, in one run
	$(BIN)/python -m tests.benchmarks $(ONLY)

bench-serving: $(INSTALLED)  ## answers a second beside a bare ASGI app and plain FastAPI; PEERS=1 other projects; BUSY=1 while calibrating
	$(BIN)/python -m tests.benchmarks.$(if $(PEERS),serving_peers,$(if $(BUSY),serving_busy,serving)) $(ARGS)

bench-rules: $(INSTALLED)  ## rules compared on real data, KEEL=DIR DATA=DIR as docs/bench.md says; writes that page
	$(BIN)/python -m tests.benchmarks.few_positives $(if $(KEEL),--keel $(KEEL)) \
		$(if $(filter-out setpoint-data,$(DATA)),--data $(DATA)) --jobs $(JOBS) $(ARGS)

soak: $(INSTALLED)  ## long runs under load and faults, in full; writes docs/soak.md
	$(BIN)/python -m tests.soak $(ONLY)

openapi: $(INSTALLED)  ## writes openapi/openapi.json from the app
	$(BIN)/python -m service.web.openapi > openapi/openapi.json

# Pins for every platform and Python at once. The CUDA libraries that some builds of torch ask for are left out: torch
# pins them itself, and a CPU build has none.
lock: $(INSTALLED)
	$(BIN)/uv pip compile --quiet --upgrade --universal --fork-strategy fewest --no-annotate --no-header \
		--extra dev pyproject.toml | grep -vE '^(nvidia-|cuda-|triton=)' > requirements.lock.new
	mv requirements.lock.new requirements.lock
	$(BIN)/uv pip compile --quiet --upgrade --universal --fork-strategy fewest --no-annotate --no-header \
		--extra cuda --constraint requirements.lock pyproject.toml | grep -E '^nvidia-' > requirements-cuda.lock.new
	mv requirements-cuda.lock.new requirements-cuda.lock

clean:
	rm -rf .venv
