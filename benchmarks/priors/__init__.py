"""Measurements and training for pretrained priors."""
