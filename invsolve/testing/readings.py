"""Other interpretations of a prior's network: each corresponds to a mistake in a declaration."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from invsolve.core.prior import Prior
from invsolve.core.schedule import CosineSchedule, DDPMSchedule, FlowSchedule, Schedule, VPSchedule
from invsolve.priors.latent import LatentPrior
from invsolve.priors.loading.beta_tables import betas
from invsolve.priors.network import NetworkPrior

__all__ = ["network_of", "readings", "reread"]


def network_of(prior: Prior) -> NetworkPrior | None:
    """Return the network prior behind a prior, in pixels or latents; None if there is none."""
    inner = prior.prior if isinstance(prior, LatentPrior) else prior
    return inner if isinstance(inner, NetworkPrior) else None


def readings(prior: Prior) -> Iterator[tuple[str, Prior]]:
    """Yield other interpretations of the same network, each with the mistake that it corresponds to."""
    network = network_of(prior)
    if network is None:
        return
    for name, other in _network_readings(network, latent=prior.latent):
        yield (
            name,
            prior.on(other, prior.shape) if isinstance(prior, LatentPrior) else other,
        )


def _network_readings(prior: NetworkPrior, *, latent: bool) -> Iterator[tuple[str, NetworkPrior]]:
    own, schedule = prior.parametrization, prior.schedule
    if own != "edm":
        for kind in ("eps", "v", "x0", "velocity"):
            if kind != own:
                yield (
                    f"wrong parametrisation: declared {own!r}, it predicts {kind!r}",
                    reread(prior, parametrization=kind),
                )
        for name, other in _schedules(schedule):
            yield f"wrong schedule: declared {schedule!r}, trained on {name}", reread(prior, schedule=other)
    if not latent:
        for other in ((-1.0, 1.0), (0.0, 1.0)):
            if other != tuple(prior.value_range):
                yield (
                    f"wrong range: declared {tuple(prior.value_range)}, trained on {other}",
                    reread(prior, value_range=other),
                )
    if prior.conditioning == "index":
        last = schedule.n_times - 1 if isinstance(schedule, DDPMSchedule) else 0
        yield "index offset: one more is expected", _told(prior, lambda c: (c + 1).clamp(0, last))
        yield "index offset: one less is expected", _told(prior, lambda c: (c - 1).clamp(0, last))
        yield "wrong time: it expects t in [0, 1], not an index", _told(prior, lambda c: (c + 1.0) / (last + 1))
    else:
        what = "noise level" if prior.conditioning == "sigma" else "time"
        for factor in (2.0, 0.5, 1000.0, 999.0):
            if factor < 10 or prior.conditioning == "time":
                yield (
                    f"wrong {what}: it expects {factor:g} times what it is given",
                    _told(prior, lambda c, f=factor: f * c),
                )


def _schedules(own: Schedule) -> Iterator[tuple[str, Schedule]]:
    if isinstance(own, DDPMSchedule):
        n = own.n_times
        latent = DDPMSchedule(betas("scaled_linear", n, 0.00085, 0.012))
        tables = {kind: DDPMSchedule(betas(kind, n)) for kind in ("linear", "cosine")} | {"scaled_linear": latent}
        for name, table in tables.items():
            if max(abs(a - b) for a, b in zip(table.alpha_bars, own.alpha_bars, strict=True)) > 1e-3:
                yield f"the {name} table", table
    else:
        for other in (FlowSchedule(), CosineSchedule(), VPSchedule()):
            if type(other) is not type(own):
                yield repr(other), other


def reread(prior: NetworkPrior, **fields: Any) -> NetworkPrior:
    """Return a copy of the prior with other attributes."""
    other = copy.copy(prior)
    for name, value in fields.items():
        setattr(other, name, value)
    return other


def _told(prior: NetworkPrior, change: Any) -> NetworkPrior:
    """Return the prior with a changed condition (time, index or noise level) for its network."""
    network = prior._network
    return reread(prior, _network=lambda x, c, given: network(x, change(c), given))
