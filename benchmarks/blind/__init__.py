"""Blind deblurring of files, by kinds of blurs: python -m benchmarks.blind."""
