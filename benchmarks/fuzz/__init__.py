"""Test every reader with damaged files: python -m benchmarks.fuzz."""
