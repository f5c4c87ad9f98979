"""Time networks, steps and published budgets on a GPU: one script, at most nine minutes."""
