"""Tests with killed runs and damaged or forged files."""
