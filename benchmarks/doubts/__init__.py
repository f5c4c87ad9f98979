"""How often a restoration warns, correctly and falsely."""
