"""Core interfaces: operators, costs, schedules, priors, problems, solvers and the loop that runs them."""
