"""Finding an unknown blur: from edges, then together with the image."""
