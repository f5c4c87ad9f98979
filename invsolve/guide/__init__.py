"""The command `invsolve guide`: samples of a prior steered by a class or a reward."""
