"""What a GPU makes of networks, steps and published budgets: one script, at most nine minutes."""
