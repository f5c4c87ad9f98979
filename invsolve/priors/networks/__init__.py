"""Architectures of denoisers and classifiers, their preconditioning and their execution."""
