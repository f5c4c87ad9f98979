"""Read the schedule and the meaning of a network's output from the configuration of a diffusers scheduler."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from invsolve.core.boundary import number, whole_number
from invsolve.core.checks import InputError
from invsolve.core.schedule import DDPMSchedule, FlowSchedule, Schedule, VESchedule
from invsolve.priors.loading.beta_tables import betas, zero_terminal_snr
from invsolve.priors.networks.preconditioning import EDMScaling

__all__ = ["Reading", "reading"]

TABLES = {"linear": "linear", "scaled_linear": "scaled_linear", "squaredcos_cap_v2": "cosine", "sigmoid": "sigmoid"}
PREDICTIONS = {"epsilon": "eps", "v_prediction": "v", "sample": "x0", "original_sample": "x0"}
MAX_STEPS = 100_000
"""Largest length of a beta table; published tables have 1000 or 4000 entries."""

_RANGES = {
    "beta_start": (0, 1), "beta_end": (0, 1), "sigma_min": (1e-9, 1e6), "sigma_max": (1e-6, 1e6),
    "sigma_data": (1e-3, 1e3), "rho": (0.1, 100), "shift": (1e-3, 1e3), "flow_shift": (1e-3, 1e3),
    "max_shift": (-7, 20), "snr_shift_scale": (0, 1e3),
}  # fmt: skip
"""The smallest and the largest accepted value of each number."""

FEW_STEPS = ("LCM", "TCD", "FlowMatchLCM")
"""Schedulers of networks that were distilled to a few steps."""


class Reading(NamedTuple):
    """Properties of a network according to the configuration of its scheduler.

    Attributes:
        schedule: schedule of the states.
        parametrization, conditioning: arguments of `NetworkPrior`.
        scaling: the preconditioning around the network, if there is one.
        score: whether the network predicts a variance-exploding score.
        scale: factor of the condition that is passed to the network.
        value_range: value range of the images.
        ranged: whether a second half of the output is a variance between two bounds (`Prediction.variance`).
        few_steps: whether the network was distilled to a few steps.
    """

    schedule: Schedule
    parametrization: str
    conditioning: str
    scaling: EDMScaling | None = None
    score: bool = False
    scale: float = 1.0
    value_range: tuple[float, float] = (-1.0, 1.0)
    ranged: bool = True
    few_steps: bool = False


def reading(config: Mapping[str, Any]) -> Reading:
    """Interpret the configuration of a scheduler; missing fields have the defaults of its class.

    Raises:
        InputError: a scheduler class or setting for which the network's prediction is not known.
    """
    kind = str(config.get("_class_name", ""))
    config = {**_defaults(kind), **config}
    _check_values(config)
    few = kind.startswith(FEW_STEPS)
    if kind.startswith("FlowMatch"):
        if config.get("invert_sigmas"):
            raise _unknown(kind, "invert_sigmas, that is times from clean to noise,")
        scale = float(config.get("num_train_timesteps", 1000))
        return Reading(FlowSchedule(_flow_shift(config)), "velocity", "time", scale=scale, few_steps=few)
    if kind.startswith("EDM"):
        return _edm(kind, config)
    if kind.startswith("ScoreSdeVe"):
        schedule = VESchedule(config.get("sigma_max", 1348.0), config.get("sigma_min", 0.01))
        return Reading(schedule, "edm", "sigma", score=True, value_range=(0.0, 1.0))
    if config.get("use_flow_sigmas"):
        return _flow_sigmas(kind, config)
    if config.get("timestep_type") == "continuous" and config.get("prediction_type") == "v_prediction":
        return _continuous(kind, config)
    return _tabled(kind, config)._replace(few_steps=few)


def _check_values(config: Mapping[str, Any]) -> None:
    """Raise `InputError` for values that are not valid for any scheduler."""
    what = "the scheduler's configuration"
    for name, (low, high) in _RANGES.items():
        if config.get(name) is not None:
            number(config, name, 0.0, low=low, high=high, what=what)
    if config.get("num_train_timesteps") is not None:
        whole_number(config, "num_train_timesteps", 1000, low=1, high=MAX_STEPS, what=what)
    for name in ("beta_schedule", "prediction_type", "timestep_type", "time_shift_type", "variance_type"):
        if not isinstance(config.get(name, ""), str | None):
            raise InputError(f"{what}: {name} must be a word, got {config[name]!r:.80}")
    own = config.get("trained_betas")
    numbers = isinstance(own, list | tuple) and all(isinstance(value, int | float) for value in own)
    if own is not None and not (numbers and 1 <= len(own) <= MAX_STEPS):
        raise InputError(f"{what}: trained_betas must be a list of 1 to {MAX_STEPS} numbers")


def _defaults(kind: str) -> dict[str, Any]:
    """The defaults of a diffusers class for fields that are missing in its configuration."""
    try:
        import diffusers
    except ImportError as error:
        raise InputError("diffusers folders need: pip install 'invsolve[priors]'") from error
    if not kind:
        return {}
    found = getattr(diffusers, kind, None)
    if not (inspect.isclass(found) and kind.endswith("Scheduler")):
        raise _unknown(kind, "a class that diffusers does not have,")
    known = inspect.signature(found.__init__).parameters.values()
    return {p.name: p.default for p in known if p.default is not p.empty}


def _unknown(kind: str, what: str) -> InputError:
    return InputError(
        f"the scheduler {kind or 'without a name'} ({what.rstrip(',')}) is not known: "
        "give schedule=... and parametrization=..."
    )


def _flow_shift(config: Mapping[str, Any]) -> float:
    """The shift of a grid; if it grows with the image size, the value for the largest size is used."""
    if not config.get("use_dynamic_shifting"):
        return float(config.get("shift", 1.0))
    largest = config.get("max_shift")
    largest = 1.15 if largest is None else float(largest)
    return largest if config.get("time_shift_type") == "linear" else math.exp(largest)


def _edm(kind: str, config: Mapping[str, Any]) -> Reading:
    prediction = config.get("prediction_type", "epsilon")
    if prediction not in ("epsilon", "v_prediction"):
        raise _unknown(kind, f"prediction {prediction!r},")
    schedule = VESchedule(config.get("sigma_max", 80.0), config.get("sigma_min", 0.002), config.get("rho", 7.0))
    scaling = EDMScaling(config.get("sigma_data", 0.5), negated=prediction == "v_prediction")
    return Reading(schedule, "edm", "sigma", scaling)


def _continuous(kind: str, config: Mapping[str, Any]) -> Reading:
    """Euler steps at noise levels instead of indices: v of data with standard deviation 1, condition ln(sigma) / 4."""
    table = _tabled(kind, config).schedule
    ends = []
    for name, t in (("sigma_max", 1.0), ("sigma_min", 0.001)):
        alpha, sigma = table(t)
        level = config.get(name)
        if level is None and alpha == 0:
            raise _unknown(kind, "continuous times without sigma_max,")
        ends.append(sigma / alpha if level is None else float(level))
    return Reading(VESchedule(*ends), "edm", "sigma", EDMScaling(1.0, negated=True))


def _flow_sigmas(kind: str, config: Mapping[str, Any]) -> Reading:
    """Other schedulers with the straight path of flow matching."""
    prediction = config.get("prediction_type")
    kinds = {"flow_prediction": "velocity", "epsilon": "eps", "sample": "x0"}
    if prediction not in kinds:
        raise _unknown(kind, f"flow sigmas, prediction {prediction!r},")
    shift = _flow_shift(config) if config.get("use_dynamic_shifting") else float(config.get("flow_shift", 1.0))
    scale = float(config.get("num_train_timesteps", 1000))
    return Reading(FlowSchedule(shift), kinds[str(prediction)], "time", scale=scale)


def _tabled(kind: str, config: Mapping[str, Any]) -> Reading:
    table, prediction, own = (config.get(name) for name in ("beta_schedule", "prediction_type", "trained_betas"))
    prediction = "epsilon" if prediction is None else prediction
    if (table not in TABLES and own is None) or prediction not in PREDICTIONS:
        raise _unknown(kind, f"table {table!r}, prediction {prediction!r},")
    if config.get("snr_shift_scale", 1.0) != 1.0:
        raise _unknown(kind, f"snr_shift_scale {config['snr_shift_scale']},")
    if own is not None:
        values = torch.tensor(own, dtype=torch.float64)
    else:
        n, first, last = (
            config.get(k, d) for k, d in (("num_train_timesteps", 1000), ("beta_start", 1e-4), ("beta_end", 0.02))
        )
        values = betas(TABLES[str(table)], n, first, last)
    if config.get("rescale_betas_zero_snr", False):
        values = zero_terminal_snr(values)
    ranged = config.get("variance_type") != "learned"
    return Reading(DDPMSchedule(values), PREDICTIONS[prediction], "index", ranged=ranged)
