"""How well the downsampling of an image is detected, and how much that gains."""
