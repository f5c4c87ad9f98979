"""From a name, a file or a folder to a prior: weights, beta tables, cards, downloads, other libraries."""
