"""Noise of files: how well it is read, and what the restoration makes of it."""
