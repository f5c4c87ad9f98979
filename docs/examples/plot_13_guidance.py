"""
Guidance by a class and by a reward
===================================

The same prior is guided by a classifier and by a function of the image. Costs can be added to use both at once.
"""

import invsolve as iv
from invsolve import costs, priors, solvers
from invsolve.priors.loading.digits import digits_classifier

prior = priors.load("digits")


def sheet(samples):
    """Sixteen digits as one image."""
    return samples[0].reshape(4, 4, 16, 16).permute(0, 2, 1, 3).reshape(1, 64, 64)


free = iv.solve(iv.Problem(prior), solvers.DDIM(n_steps=50), samples=16, seed=0)

# %%
# A classifier that has seen noisy digits steers towards sevens.

sevens = costs.ClassifierCost(
    digits_classifier().of_images, target=7, n_classes=10, conditional=True
)
rule = solvers.AdaptiveScale(30.0)
by_class = iv.solve(
    iv.Problem(prior, sevens),
    solvers.Guidance(rule, at="noisy", n_steps=50),
    samples=16,
    seed=0,
)

# %%
# Any function of the image that torch can differentiate is a reward: here, little ink in the upper half.


def bright_below(images):
    return 40 * (images[:, :, 8:].mean((1, 2, 3)) - images[:, :, :8].mean((1, 2, 3)))


reward = costs.RewardCost(bright_below)
by_reward = iv.solve(
    iv.Problem(prior, reward),
    solvers.Guidance(solvers.FixedScale(2.0), n_steps=50),
    samples=16,
    seed=0,
)
iv.diagnostics.show_images(
    {
        "no guidance": sheet(free.samples),
        "class 7": sheet(by_class.samples),
        "reward: ink below": sheet(by_reward.samples),
    }
)
