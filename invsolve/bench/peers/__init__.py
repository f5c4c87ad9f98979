"""Methods of other software on the same problems: samplers with the same denoiser, classical methods, and networks.

A peer is a function from a problem and a number of samples to images in [0, 1] units. If it cannot solve a problem, it
raises `Unable` with the reason. The methods run as published, without fixes:

    deepinv  works on [0, 1] images with a denoiser D(x + sigma n, sigma). Its own physics is used if it has the same
             operator (denoising, inpainting, circular blur), otherwise a `LinearPhysics` (for DDRM:
             `DecomposablePhysics`) around the operator. Its samplers call the denoiser in single precision.
    azula    works in the prior's units with a denoiser of (x_t, t) on its own schedule, on flattened vectors, as its
             linear solvers expect.

    classical   scikit-image, SciPy, OpenCV, Pillow and bm3d, with the usual value of their parameter
    networks    deepinv's RAM, DRUNet, DPIR, SwinIR, Restormer and SCUNet, and "spandrel:FILE", any checkpoint that
                spandrel reads; the weights must be on this machine and are never downloaded

All B * S rows run as one batch, as in invsolve. Both libraries of samplers draw from the global generator, which is
seeded before the run and restored afterwards.
"""

from __future__ import annotations

import hashlib

from invsolve.bench.peers import azula_samplers, deepinv_samplers, networks
from invsolve.bench.peers.seen import CLASSICAL, classical
from invsolve.bench.peers.task import Peer, PeerResult, Unable, denoiser_at, run_peer
from invsolve.core.checks import InputError, nearest
from invsolve.core.weight_files import find_weight_file

__all__ = [
    "PEERS",
    "RESTORERS",
    "Peer",
    "PeerResult",
    "Unable",
    "denoiser_at",
    "peer_named",
    "run_peer",
    "weights_of_peer",
]

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
"""Samplers, with all settings that are compared."""

RESTORERS = (
    *(
        Peer(name, f"parameter {method.usual:g}" if method.usual else "no parameter", classical(name), 0)
        for name, (_, method) in CLASSICAL.items()
    ),
    *(Peer(f"deepinv {name}", "its weights", networks.denoiser(name), 0) for name in ("DRUNet", "SCUNet", "Restormer")),
    Peer("deepinv SwinIR", "its weights of the nearest noise level", networks.swinir, 0),
    Peer("deepinv DPIR", "defaults", networks.dpir, 0),
    Peer("deepinv RAM", "its weights", networks.ram, 0),
)
"""Classical methods and trained networks, which return one image."""


def weights_of_peer(name: str) -> str | None:
    """Return the digest of the file of "spandrel:FILE"; None for other peers, or if the file is missing."""
    kind, _, file = name.partition(":")
    path = find_weight_file(file) if kind == "spandrel" else None
    return None if path is None else hashlib.sha256(path.read_bytes()).hexdigest()[:32]


def peer_named(name: str) -> Peer:
    """Return a peer by its name, or by "spandrel:FILE" for a checkpoint.

    Raises:
        InputError: if there is none; the message suggests the nearest name.
    """
    kind, _, file = name.partition(":")
    if kind == "spandrel" and file:
        return Peer(name, "as spandrel reads it", networks.checkpoint(file), 0)
    known = {peer.name: peer for peer in (*PEERS, *RESTORERS)}
    if name not in known:
        raise InputError(f"unknown peer {name!r}; {nearest(name, known)}; or spandrel:FILE")
    return known[name]
