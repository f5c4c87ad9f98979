"""Repositories of the Hugging Face hub: the files of priors and text encoders, in the hub's own cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from invsolve.core.checks import InputError
from invsolve.priors.loading.hub import is_offline

__all__ = ["complete_text_encoders", "fetch_repository"]

_WEIGHTS = "diffusion_pytorch_model"
_WANTED = (
    (["*.json", "invsolve.safetensors", f"*{_WEIGHTS}*.safetensors"], ["*.fp16*", "*.bf16*", "*.non_ema*"]),
    (["*.json", f"*{_WEIGHTS}*.safetensors"], ["*.non_ema*"]),
    (["*.json", f"*{_WEIGHTS}*.safetensors", f"*{_WEIGHTS}*.bin"], ["*.fp16*", "*.bf16*", "*.non_ema*"]),
)
"""Pairs of wanted and unwanted patterns for files on the Hugging Face hub. The second pair is for repositories with
half precision only, the third for old ones. Text encoders are downloaded when a prompt is given."""

_TEXTS = ["text_encoder*/*", "tokenizer*/*"]

_PARTS = ("", "unet", "transformer", "vae", "vqvae", "movq")
"""Folders of networks and autoencoders in a repository."""


def fetch_repository(
    name: str, *, revision: str | None = None, mirror: str | None = None, offline: bool | None = None
) -> Path:
    """Download a Hugging Face repository to the hub's cache (HF_HOME): only configurations, networks and autoencoders.

    Args:
        name: "organisation/name".
        revision: a branch, tag or commit; the main branch if None.
        mirror: another server of the same kind; HF_ENDPOINT if None.
        offline: use only the cache; INVSOLVE_OFFLINE or HF_HUB_OFFLINE if None.

    Raises:
        InputError: unknown repository, no network connection, or nothing in the cache.
    """
    settings: dict[str, Any] = {"revision": revision, "endpoint": mirror, "local_files_only": is_offline(offline)}
    folder = Path()
    for wanted, unwanted in _WANTED:
        folder = _snapshot(name, allow_patterns=wanted, ignore_patterns=unwanted, **settings)
        if not any(_lacks_weights(folder / part) for part in _PARTS):
            break
    return folder


def complete_text_encoders(folder: Path) -> None:
    """Download the text encoders of a pipeline that `fetch_repository` downloaded without them.

    Args:
        folder: the pipeline's folder, models--ORGANISATION--NAME/snapshots/COMMIT in the hub's cache.

    Raises:
        InputError: the weights are missing, and the folder is not in the hub's cache or the hub cannot be reached.
    """
    encoder = folder / "text_encoder"
    if any(encoder.glob("*.safetensors")) or any(encoder.glob("*.bin")):
        return
    repository = folder.parent.parent.name
    if not repository.startswith("models--"):
        raise InputError(f"{encoder} has no weights: add model.safetensors of the pipeline's text encoder")
    name, commit = repository.removeprefix("models--").replace("--", "/", 1), folder.name
    unwanted = ["*.fp16*", "*.bf16*", "*.msgpack", "*.h5", "*.onnx*"]
    for rest in (["*.bin"], ["*.safetensors"]):
        _snapshot(
            name,
            revision=commit,
            allow_patterns=_TEXTS,
            ignore_patterns=unwanted + rest,
            local_files_only=is_offline(None),
        )
        if any(encoder.glob("*.safetensors")):
            return


def _snapshot(name: str, **options: Any) -> Path:
    """The folder of a repository in the hub's cache, after downloading what is missing."""
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError
    except ImportError as error:
        raise InputError("the Hugging Face hub needs: pip install 'invsolve[priors]'") from error
    try:
        return Path(snapshot_download(name, **options))
    except LocalEntryNotFoundError as error:
        raise InputError(
            f"{name} cannot be loaded: it is not in the cache, and network access is disabled or the hub cannot be "
            "reached"
        ) from error
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"{name} cannot be loaded from the hub: {reason}") from error


def _lacks_weights(folder: Path) -> bool:
    """Whether a folder has the configuration of a network but no weights."""
    return (folder / "config.json").is_file() and not any(folder.glob(f"{_WEIGHTS}*"))
