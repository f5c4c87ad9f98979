"""Guidance of priors: combinations of two predictions, pairs of predictions, weights and clocks."""
