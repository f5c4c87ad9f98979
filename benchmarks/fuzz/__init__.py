"""Damaged files against every reader: python -m benchmarks.fuzz."""
