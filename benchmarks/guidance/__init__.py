"""Guidance: classifiers, rewards, classifier-free weights, and the theory behind them, as experiments."""
