"""The noise of an image: its level, colour, correlation and dependence on brightness, read from the image alone."""
