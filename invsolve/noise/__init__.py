"""Estimate the noise of an image from the image alone: level, colour, correlation and dependence on brightness."""
