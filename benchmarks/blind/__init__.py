"""Blind deblurring of files, by kind of blur: python -m benchmarks.blind."""
