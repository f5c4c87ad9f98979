"""Noise of files: how accurately it is estimated, and how the restoration uses it."""
