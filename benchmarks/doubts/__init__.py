"""How often a restoration warns: rightly, and without reason."""
