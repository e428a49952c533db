# The two commands of a newcomer, and the ones behind them. Meson does the building.
.PHONY: all demo try check check-mutants check-qemu bench deps build clean
all: build

demo: build
	tools/demo

try: build
	tools/try

check: deps
	tools/check

check-mutants: deps
	tests/mutants/check.py

check-qemu: build
	tools/check-qemu

bench: build
	tools/bench

deps:
	tools/install-dependencies

build: deps
	tools/build

clean:
	rm -rf build build-*
