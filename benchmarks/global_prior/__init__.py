"""A small prior of whole images, and solvers side by side with the settings published for large ones."""
