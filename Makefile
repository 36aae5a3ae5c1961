# SPDX-License-Identifier: Apache-2.0
# The two commands are `make run` and `make test`; the rest serves people who work on brume.

BUILD  ?= build
SANITIZED = $(BUILD)-asan
THREADED  = $(BUILD)-tsan
CLANGED   = $(BUILD)-clang
PREFIX ?= /usr/local

.PHONY: run test quick bench install build format lint deps clean

run: ## install what is missing, build, start the whole cloud
	@exec tools/run

test: ## install what the tests need, build and run every test
	@tools/install-packages run build test
	@tools/test

quick: ## build, unit tests, lint: the everyday loop
	@$(MAKE) --no-print-directory build
	@tools/test --quick

bench: ## the benchmarks, paired with their peers
	@tools/install-packages run build test bench
	@$(MAKE) --no-print-directory build
	@bench/run

build: $(BUILD)/build.ninja
	@ninja -C $(BUILD) --quiet
	@ln -sfn $(BUILD)/src/roles/brume brume

$(BUILD)/build.ninja:
	@meson setup $(BUILD) --prefix=$(PREFIX) >/dev/null

install: $(BUILD)/build.ninja ## into PREFIX, with the systemd unit
	@meson configure $(BUILD) -Dprefix=$(PREFIX)
	@ninja -C $(BUILD) --quiet
	@meson install -C $(BUILD) --quiet

format: ## clang-format of every C file
	@git ls-files -co --exclude-standard '*.c' '*.h' | xargs clang-format -i

lint: ## clang-format, clang-tidy, floors
	@tools/test --only format,tidy,floors

deps: ## every package: to run, build, test and measure
	@tools/install-packages run build test bench

clean:
	@rm -rf $(BUILD) $(SANITIZED) $(THREADED) $(CLANGED) .venv .venv-clients
