"""
Classifier-free guidance with a weight that grows
=================================================

Classifier-free guidance extrapolates from the unconditional to the conditional model. The weight of C2FG grows towards
the clean end. Here it is compared with a constant weight of the same mean.
"""

import matplotlib.pyplot as plt

import invsolve as iv
from invsolve import priors, solvers
from invsolve.priors.guidance.combinations import classifier_free
from invsolve.priors.guidance.weights import C2FG, Constant, MeanMatched, Moment

prior = priors.load("digits")
weights = {
    "conditional model (1)": Constant(1.0),
    "constant 3": Constant(3.0),
    "C2FG, mean 3": MeanMatched(C2FG(1.0, 1.5), 3.0),
}

times = [i / 100 for i in range(101)]
figure, axis = plt.subplots(figsize=(5, 2.6))
for name, weight in weights.items():
    axis.plot(times, [float(weight(Moment(u))) for u in times], label=name)
axis.set(xlabel="time u (1 is noise, 0 is clean)", ylabel="weight", xlim=(1, 0))
axis.legend(fontsize=8)
figure.tight_layout()

# %%
# Samples of the digit 3, with the same noise for each weight. A large weight makes them clearer and more alike.


def sheet(samples):
    return samples[0].reshape(3, 6, 16, 16).permute(0, 2, 1, 3).reshape(1, 48, 96)


drawn = {}
for name, weight in weights.items():
    guided = classifier_free(prior, weight, condition={"label": 3}, null={"label": 10})
    result = iv.solve(iv.Problem(guided), solvers.DDIM(n_steps=25), samples=18, seed=0)
    spread = iv.diagnostics.pairwise_distance(result.samples[0])
    drawn[f"{name}: distance {spread:.2f}"] = sheet(result.samples)
iv.diagnostics.show_images(drawn, height=3.2)
