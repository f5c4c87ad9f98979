"""Joint demosaicing and denoising of camera raw files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from invsolve.core.checks import CapabilityError, InputError
from invsolve.core.lazy import torch
from invsolve.tasks.base import Size, Streams, Task

if TYPE_CHECKING:
    from torch import Tensor

    from invsolve.core.rng import Rng
    from invsolve.io import Image
    from invsolve.io.raw import Mosaic
    from invsolve.noise.sensor import SensorNoise

__all__ = ["Demosaic", "Sensor"]


@dataclass(frozen=True, eq=False)
class Sensor:
    """Conversion between sensor values and images as a prior expects them.

    A sensor value x has noise of variance a + b x. `SensorNoise.encode` makes the noise white, and the values similar
    to those of stored images. Division by the `sensitivity` of each colour makes white 1 in every channel. The solver
    restores this image; it is then decoded and developed.

    Args:
        mosaic: the sensor values.
        noise: noise of the sensor values.
        source: source of the noise parameters: "file" or "estimated".
    """

    mosaic: Mosaic
    noise: SensorNoise
    source: str

    @classmethod
    def of(cls, mosaic: Mosaic) -> Self:
        """Create a sensor with the noise given by the file, or else estimated from its values."""
        from invsolve.noise.sensor import SensorNoise, estimate_sensor_noise

        if mosaic.noise is not None:
            return cls(mosaic, SensorNoise(*mosaic.noise), "file")
        side = round(len(mosaic.pattern) ** 0.5)
        height, width = (side * (n // side) for n in mosaic.values.shape[1:])
        return cls(
            mosaic,
            estimate_sensor_noise(torch.nn.functional.pixel_unshuffle(mosaic.values[:, :height, :width], side)),
            "estimated",
        )

    @property
    def sensitivity(self) -> tuple[float, float, float]:
        """The encoded values of white, for red, green and blue."""
        white = self.noise.encode(1 / torch.tensor(self.mosaic.white_balance, dtype=torch.float64))
        red, green, blue = white.tolist()
        return red, green, blue

    def encoded(self) -> Tensor:
        """Return the encoded sensor values, [1, H, W], clipped at white so that overexposed pixels have no colour."""
        values, pattern = self.noise.encode(self.mosaic.values), self.mosaic.pattern
        side = round(len(pattern) ** 0.5)
        for place, colour in enumerate(pattern):
            same = values[:, place // side :: side, place % side :: side]
            same.clamp_(max=self.sensitivity["RGB".index(colour)])
        return values

    def developed(self, image: Tensor) -> Tensor:
        """Convert a restored image [..., 3, H, W] to sRGB."""
        sensitivity = torch.tensor(self.sensitivity).to(image).view(3, 1, 1)
        return self.mosaic.developed(self.noise.decode(sensitivity * image))


@dataclass(frozen=True, eq=False)
class Demosaic(Task):
    """y = the one colour of x measured at each pixel, + noise; the other colours of y are interpolated.

    Args:
        sensor: sensor of a raw file; None in a simulation, where a Bayer sensor measures the stored pixel values.
    """

    sensor: Sensor | None = None

    name = "demosaic"
    tuning = {"demosaic": ((0.02, {}),)}

    @classmethod
    def from_options(cls, options: Self, image: Image, simulation: Streams | None) -> Self:
        if simulation is None:
            if image.mosaic is None:
                raise InputError(
                    "demosaicing needs the measurements of the sensor, in the raw file of a camera (.dng, .nef, "
                    f".cr3, ...); got a {image.format} image, which is already demosaiced"
                )
            return cls(Sensor.of(image.mosaic))
        if len(image.pixels) != 3:
            raise InputError("a simulation of demosaicing needs an image in colour, this one is grey")
        return cls()

    @property
    def pattern(self) -> str:
        """The filter colours of one tile, row by row."""
        return "RGGB" if self.sensor is None else self.sensor.mosaic.pattern

    def operator(self, channels: int, size: Size) -> Any:
        from invsolve.operators import Demosaicing

        if channels != 3:
            raise CapabilityError("demosaicing makes images in colour: three channels are needed")
        told = () if self.sensor is None else (self.sensor.sensitivity,)
        return Demosaicing((3, *size), self.pattern, *told)

    def observed(self, image: Image) -> Tensor:
        if self.sensor is None:
            return super().observed(image)
        return self._interpolated(self.sensor.encoded())

    def measurement(self, y: Tensor, channels: int) -> Tensor:
        return self.operator(channels, (y.shape[1], y.shape[2]))(y[None])[0]

    @property
    def noise_level(self) -> float | None:
        return None if self.sensor is None else self.sensor.noise.level

    def noise_sample(self, y: Tensor) -> Tensor:
        side = round(len(self.pattern) ** 0.5)
        places = [divmod(self.pattern.index(colour), side) for colour in "RGB"]
        height, width = y.shape[1] // side, y.shape[2] // side
        planes = [y[c, i::side, j::side][:height, :width] for c, (i, j) in enumerate(places)]
        return torch.stack(planes)

    def degrade(self, clean: Tensor) -> tuple[Tensor, Tensor]:
        return self._interpolated(self.measurement(clean, 3)), clean

    def noisy(self, clean: Tensor, level: float, rng: Rng) -> Tensor:
        return self._interpolated(self.measurement(super().noisy(clean, level, rng), 3))

    def _interpolated(self, values: Tensor) -> Tensor:
        """Interpolate measured values [1, H, W] to an image [3, H, W]; missing colours are means of neighbours."""
        operator = self.operator(3, (values.shape[1], values.shape[2]))
        mask = operator.mask.to(values)
        measured = operator.pinv(values[None])[0]
        filled, weight = torch.zeros_like(measured), torch.zeros_like(measured)
        for reach in (1, 2, 3):
            line = torch.tensor([reach + 1.0 - abs(i) for i in range(-reach, reach + 1)]).to(values)
            kernel = torch.outer(line, line).expand(3, 1, -1, -1)
            parts = torch.stack([measured, mask])
            near, there = torch.nn.functional.conv2d(parts, kernel, padding=reach, groups=3)
            filled, weight = torch.where(weight > 0, filled, near), torch.where(weight > 0, weight, there)
            if bool((weight > 0).all()):  # a Bayer sensor needs one pass
                break
        return torch.where(mask > 0, measured, filled / weight.clamp_min(1e-6))

    def visible(self, x: Tensor, size: Size) -> Tensor:
        return x if self.sensor is None else self.sensor.developed(x)

    def baseline(self, y: Tensor) -> tuple[str, Tensor]:
        return "interpolated", y

    def shown(self, y: Tensor) -> Tensor:
        return y if self.sensor is None else self.sensor.developed(y)

    def record(self, prior: Any) -> dict[str, Any]:
        if self.sensor is None:
            return {"pattern": self.pattern}
        mosaic, noise = self.sensor.mosaic, self.sensor.noise
        return {
            "pattern": mosaic.pattern,
            "white_balance": list(mosaic.white_balance),
            "matrix": mosaic.matrix.tolist(),
            "sensor_noise": {"a": noise.a, "b": noise.b, "source": self.sensor.source},
        }
