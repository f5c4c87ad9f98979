"""Which solvers sample from the posterior: all solvers, and those of other libraries, against exact posteriors."""
