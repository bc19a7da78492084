# Everything that a checkout needs, it sets up itself: Python 3.11 or later with venv, and make, are enough.

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-full fuzz lint types format clean

# Arguments of `bentpipe demo`, e.g. make demo DEMO_ARGS='--duration 60s'
DEMO_ARGS ?=
# Arguments of `python -m hil_tests.fuzz`, e.g. make fuzz FUZZ_ARGS='--seconds 600 ip-frames'
FUZZ_ARGS ?=
# Further arguments of pytest, e.g. make test PYTEST_ARGS='-k scenario -x'
PYTEST_ARGS ?=

say = @printf '\n== %s\n' $(1)

help: ## list what can be made
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

venv: ## the virtual environment; prints how to activate it
	@echo ". $$(tools/bootstrap report)/bin/activate"

demo: ## the main job in a minute: traffic through a Starlink link, a live view, a report
	@tools/with report -- bentpipe demo $(DEMO_ARGS)

WORKERS ?= 3
# An ordinary user's benches need a user namespace, into which pytest moves at its start when a bench is named.
BENCH := $(if $(filter 0,$(shell id -u)),,--bench starlink_2025)
comma := ,

test: SELECTION := -m 'not long'
test: tests ## what CI runs: the tests, and the packet path once more, interpreted, for coverage

test-full: SELECTION :=
test-full: CLIENTS := podman:podman runc:runc dhcpcd:dhcpcd-base sshd:openssh-server
test-full: tests ## the same with the long tests

.PHONY: tests compiled interpreted
tests:
	$(call say,'clients of the tests')
	@tools/clients $(CLIENTS)
	@tools/with report test -- true
	@$(MAKE) --no-print-directory -j 2 compiled interpreted SELECTION="$(SELECTION)"

compiled:
	$(call say,'tests$(comma) on $(WORKERS) workers; beside them the packet path interpreted')
	tools/with report test -- python -m hil_tests.warm_up
	tools/with report test -- pytest $(SELECTION) $(BENCH) -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS) hil_tests

# While the other compiles, which takes one core; it speaks when it has ended. test_cache.py is about compiling.
interpreted:
	@told=$$(NUMBA_DISABLE_JIT=1 tools/with report test -- pytest -m 'not long' -n 2 --ignore=hil_tests/unit/link/test_cache.py \
		--cov=emulator.link --cov-branch --cov-report=term-missing:skip-covered hil_tests/unit/link 2>&1); status=$$?; \
		printf '\n== packet path interpreted and its branch coverage\n%s\n' "$$told"; exit $$status

fuzz: ## whatever reads untrusted bytes, under atheris and then 10 million inputs compiled; a quarter of an hour
	tools/with report test fuzz -- python -m hil_tests.fuzz $(FUZZ_ARGS)

lint: ## ruff: rules and format
	tools/with dev -- ruff check .
	tools/with dev -- ruff format --check .

types: ## mypy, strict
	tools/with report test dev -- mypy

format: ## let ruff mend what it can
	tools/with dev -- ruff check --fix-only .
	tools/with dev -- ruff format .

clean: ## remove what is generated; the virtual environment too
	rm -rf .venv .venv.lock build dist .hypothesis .pytest_cache .mypy_cache .ruff_cache .coverage htmlcov
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
