"""deepinv's and azula's samplers on our problems: the same denoiser, operator and measurement, their own code.

A peer is a function from a problem and a number of samples to posterior samples in [0, 1] units. What it cannot do is
refused with `Unable` and its reason; nothing is repaired on the way:

    deepinv  works on [0, 1] images with a denoiser D(x + sigma n, sigma). Its own physics is used where it has the
             same operator (denoising, inpainting, circular blur), else a `LinearPhysics` (for DDRM:
             `DecomposablePhysics`) around ours. Its samplers call the denoiser in single precision.
    azula    works in the prior's units with a denoiser of (x_t, t) on its own schedule, on flattened vectors, which is
             what its linear solvers expect.

All B * S rows run as one batch, as ours do. Both draw from the global generator, which is seeded here and put back.
"""

from __future__ import annotations

from invsolve.bench.peers import azula_samplers, deepinv_samplers
from invsolve.bench.peers.task import Peer, PeerResult, Unable, denoiser_at, run_peer

__all__ = ["PEERS", "Peer", "PeerResult", "Unable", "denoiser_at", "run_peer"]

PEERS = (
    Peer("deepinv DPS", "defaults", deepinv_samplers.dps(), 1000),
    Peer("deepinv DPS annealed", "guidance='annealed'", deepinv_samplers.dps(guidance="annealed"), 1000),
    Peer("deepinv DDRM", "defaults", deepinv_samplers.ddrm, 100),
    Peer("deepinv DiffPIR", "defaults", deepinv_samplers.diffpir, 100),
    Peer("deepinv PiGDM", "defaults, DDPM solver", deepinv_samplers.guided("PiGDMDataFidelity"), 250),
    Peer("deepinv MomentMatching", "defaults, DDPM solver", deepinv_samplers.guided("MomentMatchingDataFidelity"), 250),
    Peer("azula DPS", "defaults, all samples in one batch", azula_samplers.dps(batched=True), 1000),
    Peer(
        "azula DPS sqrt(N)",
        "zeta = sqrt(rows): undoes its norm over the batch, as if samples ran one by one",
        azula_samplers.dps(batched=False),
        1000,
    ),
    Peer("azula MMPS", "defaults (1 GMRES iteration), DDPM sampler", azula_samplers.mmps(), 250),
    Peer("azula MMPS cg", "5 CG iterations, DDPM sampler", azula_samplers.mmps(solver="cg", iterations=5), 250),
)
"""Every setting that is measured."""
