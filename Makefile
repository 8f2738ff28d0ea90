# The commands of the project. `make` alone lists them.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

export CARGO_TARGET_DIR ?= target
ANVIL := $(CURDIR)/.tools/anvil
# Further arguments of `make demo` and `make bench`, for example ARGS="--chaos --nodes 3".
ARGS ?=

.PHONY: help demo test check chaos bench clean-data

help: ## Lists these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: ## Shows the whole on this machine, ends with the audit table; installs Redis where it is missing
	scripts/install-tools.sh redis
	cargo build --profile demo --bin gapless
	"$(CARGO_TARGET_DIR)/demo/gapless" demo $(ARGS)

test: ## Runs every test against real servers; installs Redis, anvil (an EVM node), Python and servers of other versions where they are missing
	scripts/install-tools.sh redis anvil python versions
	export GAPLESS_ANVIL="$(ANVIL)"; \
	if cargo nextest --version >/dev/null 2>&1; then cargo nextest run; else cargo test --bins --lib --tests; fi; \
	cargo test --doc

check: ## Format, lints and documentation, each without a warning
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps

chaos: ## Long runs with kills, pauses and cut connections, and the exhaustive models (an hour or more)
	scripts/install-tools.sh redis anvil
	export GAPLESS_ANVIL="$(ANVIL)" GAPLESS_CHAOS=long; \
	cargo test --profile demo --features failpoints --test chaos -- --nocapture --test-threads=1; \
	cargo test --profile demo --test sync storms -- --nocapture --test-threads=1; \
	cargo test --profile demo --test model -- --ignored --nocapture; \
	cargo test --profile demo --test files random; \
	cargo test --profile demo --features failpoints --test logs -- --include-ignored --nocapture --test-threads=1

bench: ## Measures the hot paths against the limit of this machine
	scripts/install-tools.sh redis
	cargo bench
	cargo build --release --bin gapless
	"$(CARGO_TARGET_DIR)/release/gapless" bench $(or $(ARGS),mailbox)

clean-data: ## Deletes ./data (what demo and unconfigured nodes collected) unless a process works in it
	@for process in /proc/[0-9]*; do \
	  case "$$(readlink "$$process/cwd" 2>/dev/null || true)/" in \
	    "$(CURDIR)/data/"*) echo "process $${process#/proc/} works in data/; stop it first" >&2; exit 1;; \
	  esac; \
	done; \
	rm -rf data && echo "data/ is gone"
