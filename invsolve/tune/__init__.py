"""Settings found on tuning pictures: what `invsolve tune` does."""

from invsolve.tune.search import Search, Trial, tune

__all__ = ["Search", "Trial", "tune"]
