"""Priors with text prompts: the text encoders of a pipeline compute the embeddings for its network."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor

from invsolve.core.checks import CapabilityError, InputError
from invsolve.core.counting import Calls
from invsolve.core.prior import Prediction, Prior, WrappedPrior

__all__ = ["PromptedPrior", "Prompts"]


class Prompts:
    """The text encoders of a diffusers pipeline, with a cache of encoded texts.

    Args:
        make: function that returns the pipeline; it is called when the first text is encoded.
        size: (height, width) of the images in pixels, a condition of Stable Diffusion XL.
    """

    def __init__(self, make: Callable[[], Any], size: tuple[int, int] | None = None) -> None:
        self._make, self.size = make, size
        self._pipe: Any = None
        self._kept: dict[tuple[str, ...], dict[str, Tensor]] = {}

    @property
    def pipe(self) -> Any:
        """The pipeline."""
        if self._pipe is None:
            self._pipe = self._make()
        return self._pipe

    @property
    def scale(self) -> float:
        """The guidance weight that the pipeline uses by default."""
        return float(inspect.signature(type(self.pipe).__call__).parameters["guidance_scale"].default)

    def encode(self, texts: Sequence[str], device: torch.device) -> dict[str, Tensor]:
        """The conditions of the network for the texts, each [len(texts), ...].

        Raises:
            InputError: a pipeline of an unknown kind.
        """
        key = (*texts, str(device))
        if key not in self._kept:
            with torch.no_grad():  # on the device of the encoders
                found = self._encoded(list(texts), getattr(self.pipe, "device", device))
            self._kept[key] = {name: value.to(device) for name, value in found.items()}
        return self._kept[key]

    def empty(self, n: int, device: torch.device) -> dict[str, Tensor]:
        """The conditions for no text: those of the empty text, or zeros if the network was trained with zeros."""
        found = self.encode([""] * n, device)
        if not getattr(self.pipe.config, "force_zeros_for_empty_prompt", False):
            return found
        return {name: v if name == "time_ids" else torch.zeros_like(v) for name, v in found.items()}

    def _encoded(self, texts: list[str], device: torch.device) -> dict[str, Tensor]:
        pipe = self.pipe
        known = inspect.signature(pipe.encode_prompt).parameters if hasattr(pipe, "encode_prompt") else {}
        words: dict[str, Any] = {"prompt": texts, "device": device, "num_images_per_prompt": 1}
        words |= {name: None for name in ("prompt_2", "prompt_3") if name in known}
        if "do_classifier_free_guidance" in known:
            words["do_classifier_free_guidance"] = False
        kind = type(pipe).__name__
        if kind.startswith("StableDiffusionXL"):
            embeddings, _, pooled, _ = pipe.encode_prompt(**words)
            return {"encoder_hidden_states": embeddings, "text_embeds": pooled, "time_ids": self._sizes(embeddings)}
        if kind.startswith("StableDiffusion3"):
            embeddings, _, pooled, _ = pipe.encode_prompt(**words)
            return {"encoder_hidden_states": embeddings, "pooled_projections": pooled}
        if kind.startswith("Flux"):
            embeddings, pooled, _ = pipe.encode_prompt(**words)
            return {"encoder_hidden_states": embeddings, "pooled_projections": pooled}
        if kind.startswith("StableDiffusion"):
            return {"encoder_hidden_states": pipe.encode_prompt(**words)[0]}
        raise InputError(f"encoding texts with a {kind} is not supported: bind its embeddings with prior.given(...)")

    def _sizes(self, like: Tensor) -> Tensor:
        """Original size, crop corner and target size, the size conditions of the network."""
        height, width = self.size or (1024, 1024)
        row = torch.tensor([height, width, 0, 0, height, width], dtype=like.dtype, device=like.device)
        return row.expand(len(like), 6)


class PromptedPrior(WrappedPrior):
    """A prior with text prompts: `given(prompt=..., negative_prompt=..., guidance_scale=...)`.

    A prompt is one text for all images, or a list with one text per image. With a `guidance_scale` or a
    `negative_prompt` classifier-free guidance is used (Ho and Salimans 2022, arXiv 2207.12598), away from the negative
    prompt or from no text. If only the negative prompt is given, the scale is the pipeline's default. FLUX networks
    that were distilled with a guidance scale receive the scale as a condition instead.

    Args:
        prior: the prior of the network, whose conditions are embeddings.
        prompts: the text encoders.
    """

    def __init__(self, prior: Prior, prompts: Prompts) -> None:
        super().__init__(prior)
        self.prompts = prompts

    def predict(self, x_t: Tensor, t: float) -> Prediction:
        return self.prior.predict(x_t, t)

    def given(self, **condition: Any) -> Prior:
        """The prior of images that match a text, or the prior with embeddings bound under the network's argument names.

        Raises:
            CapabilityError: a condition that the network does not take.
            InputError: different numbers of prompts and negative prompts.
        """
        prompt = condition.pop("prompt", None)
        negative, scale = condition.pop("negative_prompt", None), condition.pop("guidance_scale", None)
        if prompt is None:
            if negative is not None or scale is not None:
                raise InputError("negative_prompt and guidance_scale need a prompt: give prompt=... as well")
            return super().given(**condition)
        texts = [prompt] if isinstance(prompt, str) else list(prompt)
        told = self.prompts.encode(texts, self.device)
        distilled = "guidance" in getattr(getattr(self.prior, "module", None), "needed", ())
        if distilled:
            if negative is not None:
                raise CapabilityError("this network was distilled with its guidance: it takes no negative prompt")
            told = {**told, "guidance": torch.tensor(self.prompts.scale if scale is None else float(scale))}
            scale = None
        prior = self.prior.given(**condition)
        if negative is None and scale is None:
            bound = prior.given(**told)
        else:
            bound = self._guided(prior, told, texts, negative, scale)
        return _Shared(bound) if isinstance(prompt, str) else bound

    def _guided(
        self, prior: Prior, told: Mapping[str, Tensor], texts: list[str], negative: Any, scale: float | None
    ) -> Prior:
        from invsolve.priors.guidance.combinations import classifier_free

        if negative is None:
            null = self.prompts.empty(len(texts), self.device)
        else:
            against = [negative] * len(texts) if isinstance(negative, str) else list(negative)
            if len(against) != len(texts):
                raise InputError(
                    f"{len(texts)} prompts and {len(against)} negative prompts given: give a list with one negative "
                    "prompt for each prompt, or a single text"
                )
            null = self.prompts.encode(against, self.device)
        return classifier_free(prior, self.prompts.scale if scale is None else scale, condition=told, null=null)

    def counted(self, calls: Calls) -> Prior:
        return self.around(self.prior.counted(calls))

    def __repr__(self) -> str:
        return f"PromptedPrior({self.prior!r})"


class _Shared(WrappedPrior):
    """A prior with one condition for all images of a batch of any size."""

    def predict(self, x_t: Tensor, t: float) -> Prediction:
        return self.prior.select(torch.zeros(len(x_t), dtype=torch.long)).predict(x_t, t)

    @property
    def items(self) -> int | None:
        return None

    def select(self, rows: Tensor) -> Self:
        return self

    def counted(self, calls: Calls) -> Prior:
        return self.around(self.prior.counted(calls))

    def __repr__(self) -> str:
        return repr(self.prior)
