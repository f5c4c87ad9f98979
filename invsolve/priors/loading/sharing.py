"""Share a prior as a repository on the Hugging Face hub: one safetensors file and a card."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from invsolve.core.checks import InputError
from invsolve.core.files import written_whole
from invsolve.core.prior import Prior
from invsolve.priors.loading.files import REPOSITORY_FILE
from invsolve.priors.loading.hub import sha256_of
from invsolve.priors.loading.weights import read_weights

__all__ = ["Description", "push", "upload", "write_repository"]

CARD = """---
library_name: invsolve
license: {licence}
tags: [invsolve, diffusion, inverse-problems, image-restoration]
---

# {title}

{summary}

| | |
|---|---|
| data | {data} |
| licence | {licence} |
| sizes | {sizes} |
| value range | {value_range} |
| schedule | {schedule} |
| weights | {weights:.3g} million |
| SHA-256 of `{file}` | `{sha256}` |

```python
import invsolve as iv

prior = iv.priors.load("hf:{name}")
done = iv.restore("photo.jpg", task="superres", factor=2, prior=prior)
```

    invsolve priors check hf:{name}
    invsolve restore photo.jpg --task superres --factor 2 --prior hf:{name}

Weights are read from safetensors; nothing in the file is executed.
"""


@dataclass(frozen=True)
class Description:
    """Information for the card that the weight file does not contain.

    Attributes:
        summary: one sentence: which images, for which purpose.
        data: the training data and its terms of use.
        licence: licence of the weights, by its SPDX name in lower case, as the hub spells it ("apache-2.0",
            "cc-by-4.0").
    """

    summary: str
    data: str
    licence: str

    def __post_init__(self) -> None:
        for name in ("summary", "data", "licence"):
            text = getattr(self, name)
            if not text.strip() or "\n" in text:
                raise InputError(f"the card needs its {name} in one line, got {text!r}")


def write_repository(source: Path, folder: Path, name: str, description: Description) -> list[Path]:
    """Write the files of a repository: the weights as safetensors, and the card README.md.

    Args:
        source: a file that `priors.load` reads: from `invsolve train`, a converted EDM network, or guided diffusion.
        folder: the folder to write; it is created, and files of earlier runs are replaced.
        name: "organisation/name" on the hub.
        description: see `Description`.

    Returns:
        The written files.

    Raises:
        InputError: the file is not a prior, or the name is not a valid name on the hub.
    """
    from invsolve.priors import load

    if name.count("/") != 1 or not all(name.split("/")):
        raise InputError(f"a repository must be named organisation/name, got {name!r}")
    if not source.is_file():
        raise InputError(f"{source} is not a file: push a diffusers folder as it is, with huggingface_hub")
    prior = load(source)
    folder.mkdir(parents=True, exist_ok=True)
    weights, card = folder / REPOSITORY_FILE, folder / "README.md"
    with written_whole(weights) as part:
        _write_weights(source, part)
    with written_whole(card) as part:
        part.write_text(_card(prior, weights, name, description))
    return [weights, card]


def _write_weights(source: Path, part: Path) -> None:
    """Copy a safetensors file, or write the tensors of another file as safetensors."""
    if source.suffix == ".safetensors":
        shutil.copyfile(source, part)
        return
    from safetensors.torch import save_file

    tensors = {name: tensor.contiguous().clone() for name, tensor in read_weights(source).tensors.items()}
    save_file(tensors, part, {"source": source.name})


def _card(prior: Prior, weights: Path, name: str, description: Description) -> str:
    count = sum(tensor.numel() for tensor in read_weights(weights).tensors.values())
    return CARD.format(
        title=name.split("/")[1],
        name=name,
        file=REPOSITORY_FILE,
        sha256=sha256_of(weights),
        summary=description.summary,
        data=description.data,
        licence=description.licence,
        sizes="any" if prior.shape is None else " x ".join(map(str, prior.shape)),
        value_range=prior.value_range,
        schedule=repr(prior.schedule),
        weights=count / 1e6,
    )


def push(folder: Path, name: str, *, private: bool = False, endpoint: str | None = None, api: Any = None) -> str:
    """Upload the files written by `write_repository`; see `upload`."""
    files = [REPOSITORY_FILE, "README.md"]
    return upload(folder, name, files, "A prior for invsolve", private=private, endpoint=endpoint, api=api)


def upload(
    folder: Path,
    name: str,
    files: Sequence[str],
    message: str,
    *,
    kind: Literal["model", "dataset"] = "model",
    private: bool = False,
    endpoint: str | None = None,
    api: Any = None,
) -> str:
    """Upload files of a folder to the Hugging Face hub, with the token stored by `hf auth login`.

    Args:
        folder: the folder with the files.
        name: "organisation/name"; the repository is created if it does not exist.
        files: paths relative to the folder.
        message: commit message.
        kind: kind of the repository.
        private: whether a new repository is visible only to its organisation.
        endpoint: another server of the same kind; HF_ENDPOINT if None.
        api: object used for the upload in place of `huggingface_hub.HfApi`.

    Returns:
        The address of the commit.

    Raises:
        InputError: huggingface_hub is missing, nobody is logged in, or the server refuses.
    """
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError
    except ImportError as error:
        raise InputError("the Hugging Face hub needs: pip install 'invsolve[priors]'") from error
    api = api or HfApi(endpoint=endpoint)
    try:
        api.create_repo(name, private=private, exist_ok=True, repo_type=kind)
        commit = api.upload_folder(
            repo_id=name, folder_path=folder, allow_patterns=list(files), commit_message=message, repo_type=kind
        )
    except LocalTokenNotFoundError as error:
        raise InputError("you are not logged in to the Hugging Face hub: run hf auth login") from error
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"{name} cannot be pushed: {reason}") from error
    return str(getattr(commit, "commit_url", commit))
