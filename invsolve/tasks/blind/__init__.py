"""Finding an unknown blur: from edges, and a second opinion from image and prior together."""
