"""Training of small priors. Import from the modules directly; nothing heavy is imported here."""
