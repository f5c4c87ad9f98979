"""Packages that `invsolve new` writes."""
