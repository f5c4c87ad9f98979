"""Loading of priors by name, file or folder: weights, beta tables, cards, downloads, other libraries."""
