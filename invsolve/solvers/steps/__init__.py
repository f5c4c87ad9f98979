"""What solvers share: updates, time paths, gradients, control optimisation, linear solves, particles, scales."""
