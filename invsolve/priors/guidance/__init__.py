"""Guidance of priors: combinations of predictions, the pairs they are made of, weights and their clocks."""
