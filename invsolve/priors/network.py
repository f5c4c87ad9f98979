"""A prior from a torch module with a given parametrisation, schedule and value range."""

from __future__ import annotations

import copy
import hashlib
import inspect
from collections.abc import Mapping
from typing import Any, Literal, Protocol, Self, get_args, runtime_checkable

import torch
from torch import Tensor, nn

from invsolve.core.checks import CapabilityError, InputError, ShapeError
from invsolve.core.identity import keyed_state
from invsolve.core.operator import Shape
from invsolve.core.prior import Prediction, Prior
from invsolve.core.schedule import DDPMSchedule, Schedule
from invsolve.priors.networks.execution import Network, Speed

__all__ = ["NetworkPrior", "Parametrization", "weights_of"]

Parametrization = Literal["eps", "v", "x0", "velocity", "edm"]
Conditioning = Literal["index", "time", "sigma"]


@runtime_checkable
class _Conditioned(Protocol):
    """A network with a list of the conditions that it accepts."""

    conditions: tuple[str, ...]


class NetworkPrior(Prior):
    """A prior from a network that predicts one of

        eps       the noise n
        v         alpha_t n - sigma_t x0   (Salimans and Ho 2022, arXiv 2202.00512)
        x0        the clean sample
        velocity  n - x0                   (flow matching)
        edm       x0 from the unscaled input x_t / alpha_t and its noise level sigma_t / alpha_t
                  (Karras et al. 2022, arXiv 2206.00364): such a network works with every schedule

    The module is called as module(input, c) with c [N]. It must return the shape of the input, or twice its channels if
    it learned a variance. It is put into evaluation mode and its weights are frozen: they never require a gradient.

    Args:
        module: the network.
        parametrization: see above.
        schedule: the DDPM table of 1000 steps if None.
        value_range: values of black and white in the network's space.
        shape: shape of one sample, if the network has a fixed size.
        conditioning: meaning of c: "index" of the DDPM table (default with such a table), "time" t in [0, 1] (default
            otherwise) or "sigma" = sigma_t / alpha_t (always used for "edm").
        speed: how the network is run: precision, layout, compilation, recomputation, chunks.
        key: a text that identifies the network in checkpoints, if its weights and attributes cannot. Change the text
            whenever the network changes.
        channels: channels of its images, if `shape` is not given.

    Raises:
        InputError: an unknown parametrisation, or conditioning "index" without a table.
    """

    def __init__(
        self,
        module: nn.Module,
        parametrization: Parametrization = "eps",
        schedule: Schedule | None = None,
        value_range: tuple[float, float] = (-1.0, 1.0),
        shape: Shape | None = None,
        conditioning: Conditioning | None = None,
        speed: Speed | None = None,
        key: str | None = None,
        channels: int | None = None,
    ) -> None:
        if parametrization not in get_args(Parametrization):
            raise InputError(f"parametrization must be one of {get_args(Parametrization)}, got {parametrization!r}")
        self.module = module.eval().requires_grad_(False)
        self.parametrization: Parametrization = parametrization
        self.schedule = schedule or DDPMSchedule()
        self.value_range, self.shape, self.speed = value_range, shape, speed or Speed()
        self.channels = channels if shape is None else shape[0]
        tabled = isinstance(self.schedule, DDPMSchedule)
        self.conditioning: Conditioning = conditioning or ("index" if tabled else "time")
        if parametrization == "edm":
            self.conditioning = "sigma"
        if self.conditioning == "index" and not tabled:
            raise InputError(f"a network conditioned on an index needs a DDPMSchedule, got {self.schedule!r}")
        self.key = key
        self._given: dict[str, Any] = {}
        weight = next((p for p in module.parameters() if p.is_floating_point()), None)
        self._device = weight.device if weight is not None else torch.device("cpu")
        self._dtype = weight.dtype if weight is not None and weight.dtype == torch.float64 else torch.float32
        self._network = Network(self.module, self.speed, self._device)

    @property
    def device(self) -> torch.device:
        return self._device

    @property
    def dtype(self) -> torch.dtype:
        return self._dtype

    def denoise(self, x_t: Tensor, t: float) -> Tensor:
        return self.predict(x_t, t).x0

    def predict(self, x_t: Tensor, t: float) -> Prediction:
        alpha, sigma = self.schedule(t)
        x = x_t / alpha if self.parametrization == "edm" else x_t
        out = self._network(x, self._condition(x_t, t), self._conditions)
        out, variance = self._split(out.to(x_t.dtype), x_t)
        match self.parametrization:
            case "eps":
                return Prediction(torch.sub(x_t, out, alpha=sigma) / alpha, out, variance)
            case "v":
                scale = 1.0 / (alpha**2 + sigma**2)
                x0 = torch.sub(scale * alpha * x_t, out, alpha=scale * sigma)
                return Prediction(x0, lambda: torch.add(scale * sigma * x_t, out, alpha=scale * alpha), variance)
            case "velocity":
                scale = 1.0 / (alpha + sigma)
                x0 = scale * torch.sub(x_t, out, alpha=sigma)
                return Prediction(x0, lambda: scale * torch.add(x_t, out, alpha=alpha), variance)
            case _:
                return Prediction(out, lambda: torch.add(x_t, out, alpha=-alpha).div_(sigma), variance)

    @property
    def _conditions(self) -> Mapping[str, Any]:
        """The keyword arguments of the network call."""
        return self._given

    def given(self, **condition: Any) -> Self:
        """Bind keyword arguments to the network, for example y=labels ([B] or a number), and return the new prior.

        Raises:
            CapabilityError: the network's forward has no such argument.
        """
        if isinstance(self.module, _Conditioned):
            known, free = self.module.conditions, False
        else:
            parameters = inspect.signature(self.module.forward).parameters
            known, free = tuple(parameters), any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        unknown = [name for name in condition if name not in known and not free]
        if unknown:
            raise CapabilityError(
                f"{type(self.module).__name__} takes no argument {', '.join(unknown)}; it takes {', '.join(known)}"
            )
        bound = copy.copy(self)
        bound._given = {**self._given, **condition}
        return bound

    @property
    def unbound(self) -> str | None:
        missing = [name for name in getattr(self.module, "needed", ()) if name not in self._given]
        if not missing:
            return None
        return f"needs embeddings of a text ({', '.join(missing)}): give --prompt, or bind them with prior.given(...)"

    @property
    def divides_by_alpha(self) -> bool:
        return self.parametrization in ("edm", "eps")

    @property
    def image_channels(self) -> int | None:
        return self.channels

    @property
    def items(self) -> int | None:
        return next((len(v) for v in self._given.values() if isinstance(v, Tensor) and v.ndim), None)

    def select(self, rows: Tensor) -> Self:
        if not any(isinstance(v, Tensor) and v.ndim for v in self._given.values()):
            return self
        chosen = {k: v[rows.to(v.device)] if isinstance(v, Tensor) and v.ndim else v for k, v in self._given.items()}
        bound = copy.copy(self)
        bound._given = chosen
        return bound

    def _condition(self, x_t: Tensor, t: float) -> Tensor:
        if self.conditioning == "index":
            assert isinstance(self.schedule, DDPMSchedule)
            return torch.full((len(x_t),), self.schedule.index(t), device=x_t.device)
        alpha, sigma = self.schedule(t)
        value = t if self.conditioning == "time" else sigma / alpha
        return torch.full((len(x_t),), value, device=x_t.device, dtype=x_t.dtype)

    def _split(self, out: Tensor, x_t: Tensor) -> tuple[Tensor, Tensor | None]:
        if out.shape == x_t.shape:
            return out, None
        if out.shape[2:] == x_t.shape[2:] and out.shape[1] == 2 * x_t.shape[1]:
            mean, variance = out.chunk(2, dim=1)
            return mean, variance
        raise ShapeError(
            f"{type(self.module).__name__} returned {list(out.shape)} for an input of {list(x_t.shape)}: "
            "expected the same shape, or twice the channels where a variance was learned"
        )

    def identity_state(self) -> dict[str, Any]:
        """What determines the estimates: network, weights, parametrisation, condition; not the device."""
        left_out = ("_network", "_device", "_null_label")
        return {name: value for name, value in keyed_state(self, "module").items() if name not in left_out}

    def __repr__(self) -> str:
        return f"NetworkPrior({type(self.module).__name__}, {self.parametrization}, {self.schedule!r})"


def weights_of(prior: Prior) -> str:
    """Return a digest of the weights of a network prior; "" for other priors."""
    if not isinstance(prior, NetworkPrior):
        return ""
    found = hashlib.sha256()
    for name, value in sorted(prior.module.state_dict().items()):
        found.update(name.encode() + value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:16]
