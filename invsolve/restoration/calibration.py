"""Calibration tables: the required interval widths for each degradation and noise level, measured on photographs.

q is defined in `invsolve.restoration.conformal`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from invsolve.core.boundary import parse_json, read_json
from invsolve.core.checks import InputError
from invsolve.core.files import destination, write_whole
from invsolve.restoration.conformal import LEVELS, PROMISES

__all__ = ["UNRELATED", "Calibration", "Cell", "Factor", "packaged_calibration"]

FORMAT = 3

WIDER = 1.5
"""Factor applied to intervals outside the calibrated range."""

UNRELATED = 0.01
"""The noise level in the tables of tasks that define their own noise level."""

WORST = 5.0
"""Assumed upper bound for the pixels of an image outside their intervals, as a multiple of the promised share."""

REACH = 1.05
"""A noise level or strength counts as calibrated up to this factor beyond the range of the table."""


@dataclass(frozen=True)
class Cell:
    """Measurements for one degradation at one noise level.

    Attributes:
        kind, severity: see `Task.severity`; the mean over the images.
        noise: standard deviation of the noise in [0, 1] units.
        images: number of images.
        average, image: q at LEVELS for each of the pixel `groups`, for the two promises.
        functional: q at LEVELS for box means and pixel differences, in units of the samples' standard deviation.
        measured: coverage and scores, for reports.
    """

    kind: str
    severity: float
    noise: float
    images: int
    average: Mapping[str, Sequence[float]]
    image: Mapping[str, Sequence[float]]
    functional: Sequence[float]
    measured: Mapping[str, Any] = field(default_factory=dict)

    def q(self, promise: str, group: str) -> Sequence[float]:
        """q at LEVELS, for a promise or "functional"."""
        if promise == "functional":
            return self.functional
        table = self.average if promise == "average" else self.image
        return table[group] if group in table else [max(q) for q in zip(*table.values(), strict=True)]

    def at(self, level: float, promise: str, group: str, widening: float | None = None) -> float:
        """Return q for a level, corrected for the small number of images.

        A new image may be worse than all n calibration images. For the promise "average", q is therefore the value with
        a miss rate of ((1 - level) (n + 1) - B) / n on the calibration images. The expected miss rate on a new image is
        then at most 1 - level (conformal risk control, Angelopoulos et al. 2022, arXiv 2208.02814), if no image misses
        more than B = min(1, 5 (1 - level)), half of its pixels at a level of 0.9. q is at most the value at the highest
        level of the table. For the promise "image", `widening` replaces the cell's own factor.
        """
        if promise == "image":
            factor = self.widening(level) if widening is None else widening
            return factor * _at(self.q("average", group), level)
        worst = min(1.0, WORST * (1 - level))
        miss = ((1 - level) * (self.images + 1) - worst) / self.images
        return _at(self.q(promise, group), min(1 - miss, LEVELS[-1]))

    def widening(self, level: float) -> float:
        """The factor on q of all groups that the promise "image" requires for the images of this cell."""
        wide, usual = ([sum(q) for q in zip(*table.values(), strict=True)] for table in (self.image, self.average))
        return _at(wide, level) / _at(usual, level)


@dataclass(frozen=True)
class Factor:
    """q for one degradation, noise level, promise and level.

    Attributes:
        q: half the interval width in units of the scale.
        outside: text that says what is outside the calibrated range; "" if nothing is.
    """

    q: float
    outside: str = ""


@dataclass(frozen=True)
class Calibration:
    """A table of `Cell`s and the configuration they were measured with.

    Attributes:
        prior: name of the prior.
        solver: name of the sampler; "" for the default sampler.
        settings: settings of the sampler, if any were given.
        samples: number of samples drawn for each image.
        centre: "point" (the point estimate) or "mean" (of the samples).
        photographs: their number, their size in pixels and a digest.
        weights: digest of the prior's weights, "" if it has none. A prior with other weights is another prior.
        cells: the measurements.
        antithetic: whether the samples were drawn in antithetic pairs, as for `restore`; suites draw independent ones,
            whose mean has a larger sampling error.
    """

    prior: str
    solver: str
    settings: Mapping[str, Any]
    samples: int
    centre: str
    photographs: Mapping[str, Any]
    cells: tuple[Cell, ...]
    weights: str = ""
    antithetic: bool = True

    def factor(self, kind: str, severity: float, noise: float, level: float, promise: str, group: str = "") -> Factor:
        """Return q, interpolated in the logarithms of noise and severity; wider outside the table, with the reason.

        A noise level below the lowest calibrated one uses the q of the lowest: the errors are then those of the prior,
        and do not grow when the noise decreases. All cells of a kind share the factor for the promise "image".

        Raises:
            InputError: unknown level or promise.
        """
        if promise not in (*PROMISES, "functional"):
            raise InputError(f"promise must be one of {', '.join(PROMISES)}, got {promise!r}")
        if not LEVELS[0] <= level <= LEVELS[-1]:
            raise InputError(f"calibrated levels range from {LEVELS[0]} to {LEVELS[-1]}, got {level}")
        known = [cell for cell in self.cells if cell.kind == kind]
        if not known:
            nearest = self._nearest(kind, severity, noise, level, promise, group)
            return Factor(WIDER * nearest, f"{kind} was not calibrated")
        rows: dict[float, list[Cell]] = {}
        for cell in known:
            rows.setdefault(cell.severity, []).append(cell)
        at_noise = {
            strength: _interpolated(noise, {cell.noise: self._q(cell, level, promise, group) for cell in cells})
            for strength, cells in rows.items()
        }
        outside = _beyond("strength", severity, list(rows))
        for strength in _beside(severity, list(rows)):
            levels = [cell.noise for cell in rows[strength]]
            outside = outside or _beyond("noise", max(noise, min(levels)), levels)
        q = _interpolated(severity, at_noise)
        return Factor(WIDER * q if outside else q, outside)

    def _nearest(self, kind: str, severity: float, noise: float, level: float, promise: str, group: str) -> float:
        """q of the parent kind ("superres" for "superres-area-jpeg"); the largest q of all if no parent kind exists."""
        while "-" in kind:
            kind = kind.rpartition("-")[0]
            if any(cell.kind == kind for cell in self.cells):
                return self.factor(kind, severity, noise, level, promise, group).q
        return max((self._q(cell, level, promise, group) for cell in self.cells), default=math.inf)

    def _q(self, cell: Cell, level: float, promise: str, group: str) -> float:
        """q of a cell. For the promise "image" it uses the factor of its kind, and is at least the q for "average"."""
        if promise != "image":
            return cell.at(level, promise, group)
        shared = cell.at(level, "image", group, self.widening(cell.kind, level))
        return max(shared, cell.at(level, "average", group))

    def widening(self, kind: str, level: float) -> float:
        """The factor on q for the promise "image": the geometric mean of the factors of all cells of a kind.

        The factor of a single cell depends on one exceptional image. `python -m benchmarks.uncertainty sharing`
        compares the two.
        """
        factors = [cell.widening(level) for cell in self.cells if cell.kind == kind]
        return math.exp(sum(map(math.log, factors)) / len(factors))

    def write(self, path: Path) -> None:
        """Write the table as JSON, either completely or not at all."""
        content = {"format": FORMAT, "levels": LEVELS, **asdict(self)}
        write_whole(destination(path), (json.dumps(content, indent=1, default=list) + "\n").encode())

    @classmethod
    def read(cls, path: str | Path) -> Calibration:
        """Read a table written by `write`.

        Raises:
            InputError: the file does not exist, or is not a calibration table.
        """
        if not Path(path).is_file():
            raise InputError(f"there is no calibration file {path}: invsolve calibrate writes one")
        return _parsed(read_json(Path(path), "calibration file"), str(path))

    def matches(self, prior: str, solver: str, settings: Mapping[str, Any]) -> bool:
        """Whether the table was calibrated for a restoration with these options and antithetic samples."""
        same = (prior, solver, dict(settings)) == (self.prior, self.solver, dict(self.settings))
        return same and self.antithetic

    @property
    def described(self) -> str:
        """A text description of the set of photographs."""
        own = self.photographs
        return f"{own['count']} photographs, crops of {own['size']} pixels (SHA-256 {own['digest']}...)"


@cache
def packaged_calibration(prior: str, task: str = "") -> Calibration | None:
    """Return the packaged table of a prior, or of the prior and task if that exists; None if there is none."""
    if not prior.isidentifier():
        return None
    for name in (f"calibration-{prior}-{task}.json", f"calibration-{prior}.json"):
        path = files("invsolve") / "presets" / name
        if path.is_file():
            return _parsed(parse_json(path.read_text(encoding="utf-8"), path.name), path.name)
    return None


def _at(values: Sequence[float], level: float) -> float:
    """Interpolate q linearly between LEVELS."""
    return float(_linear(level, LEVELS, values))


def _interpolated(x: float, table: Mapping[float, float]) -> float:
    """Interpolate linearly in log x and log value; use the end values outside the range."""
    places = sorted(table)
    logs = [math.log(max(table[place], 1e-12)) for place in places]
    return math.exp(_linear(math.log(max(x, 1e-12)), [math.log(max(p, 1e-12)) for p in places], logs))


def _linear(x: float, places: Sequence[float], values: Sequence[float]) -> float:
    if x <= places[0]:
        return values[0]
    for i in range(1, len(places)):
        if x <= places[i]:
            way = (x - places[i - 1]) / (places[i] - places[i - 1])
            return values[i - 1] + way * (values[i] - values[i - 1])
    return values[-1]


def _beside(x: float, places: Sequence[float]) -> tuple[float, float]:
    """The two neighbouring places of x; the first or last place twice if x is outside their range."""
    below, above = [p for p in places if p <= x], [p for p in places if p >= x]
    return max(below, default=min(places)), min(above, default=max(places))


def _beyond(what: str, x: float, places: Sequence[float]) -> str:
    low, high = min(places), max(places)
    if low / REACH <= x <= high * REACH:
        return ""
    return f"{what} {x:.3g} is outside the calibrated range {low:.3g} to {high:.3g}"


def _parsed(content: dict[str, Any], name: str) -> Calibration:
    try:
        version, levels = content.pop("format"), tuple(content.pop("levels"))
        cells = tuple(Cell(**cell) for cell in content.pop("cells"))
        table = Calibration(cells=cells, **content)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{name} is not a calibration file: invsolve calibrate writes one") from None
    if version != FORMAT or levels != LEVELS:
        raise InputError(f"{name} is a calibration file of another version: recreate it with invsolve calibrate")
    return table
