"""Parts shared by solvers: updates, time paths, gradients, control optimisation, linear solves, particles, scales."""
