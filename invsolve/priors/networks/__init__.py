"""Architectures of denoisers and classifiers, their preconditioning, and how they are executed."""
