"""How well it is told how an image was made smaller, and what that is worth."""
