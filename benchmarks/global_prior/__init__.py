"""Solvers side by side on a small prior of whole images, with the settings published for large priors."""
