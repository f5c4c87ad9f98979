"""Restore the pages of a TIFF file: each page is restored separately, and all are written to one file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from invsolve.core.checks import InputError
from invsolve.core.driver import Progress
from invsolve.core.prior import Prior
from invsolve.io import SUFFIXES, page_count
from invsolve.io.encode import check_format
from invsolve.restoration.job import Job
from invsolve.restoration.options import Options
from invsolve.restoration.prepare import prepare
from invsolve.restoration.restored import Restoration
from invsolve.restoration.run import run

__all__ = ["jobs_of", "run_pages"]


def jobs_of(path: Path, options: Options, ending: str) -> Iterator[Job]:
    """Yield a prepared job for each page of a file; each job is created on demand.

    Args:
        path: an image file of any format; only TIFF files can have several pages.
        options: the options for all pages.
        ending: extension of the output file.

    Raises:
        InputError: a request that cannot be fulfilled: several pages in a format that holds one; samples, a blur kernel
            or a checkpoint for several pages; a format that cannot hold the restored image.
    """
    count = page_count(path)
    if count > 1:
        if SUFFIXES.get(ending.lower()) != "tiff":
            raise InputError(f"{path} has {count} pages, but a {ending} file holds only one: write a .tif file")
        for given, what in (
            (options.samples, "--samples works on one image"),
            (options.kind.estimates_kernel, "a blur is found in one image"),
            (options.checkpoint, "a checkpoint belongs to one image"),
        ):
            if given:
                raise InputError(f"{path} has {count} pages, but {what}: split the file")
    for page in range(count):
        job = prepare(path, options, page=page if count > 1 else None)
        alpha = None if job.image.alpha is None else job.task.opacity(job.image.alpha)
        check_format(path.with_suffix(ending), job.task.restored_size(job.measured), alpha)
        yield job


def run_pages(
    jobs: Iterable[Job], prior: Prior | None = None, *, callbacks: Sequence[Callable[[Progress], None]] = ()
) -> Restoration:
    """Restore the pages of a file one by one; see `invsolve.restoration.run.run`."""
    first, *further = (run(job, prior, callbacks=callbacks) for job in jobs)
    if not further:
        return first
    return replace(first, further=tuple(further), record={**first.record, "further_pages": [p.record for p in further]})
