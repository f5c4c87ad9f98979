"""Benchmarks: the adapters of peers; suites and their runner build on them."""
