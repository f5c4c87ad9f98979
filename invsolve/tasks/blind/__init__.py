"""Estimate an unknown blur: from edges, with a second estimate from image and prior together."""
