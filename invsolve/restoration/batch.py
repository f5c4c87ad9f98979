"""Restore many images with the same options; each image once, and a failure does not stop the others."""

from __future__ import annotations

import itertools
import json
import os
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from invsolve.core.checks import InputError, InvsolveError
from invsolve.core.context import threads
from invsolve.core.driver import Progress
from invsolve.execution.executor import Executor, outcomes
from invsolve.io import Image
from invsolve.io.inputs import Source
from invsolve.restoration.fetch import is_file, local
from invsolve.restoration.items import Batch, Item, Outcome, check_items
from invsolve.restoration.job import Job
from invsolve.restoration.loading import kept_prior, release_prior
from invsolve.restoration.options import Options
from invsolve.restoration.outputs import is_finished, save, write_record
from invsolve.restoration.pages import jobs_of, run_pages
from invsolve.restoration.prepare import check_options, prepare
from invsolve.restoration.restored import Restoration
from invsolve.restoration.run import run
from invsolve.restoration.sources import TEMPLATE, Entry, entries, find, output_path, targets, without_outputs

__all__ = ["restore_batch", "restore_item", "restore_many"]

WAITING = 2
"""Number of restorations that may wait to be written while the next image is computed."""

Callback = Callable[[Progress], None]


def restore_many(
    sources: Sequence[Source] | str | Path,
    task: str = "auto",
    *,
    out: str | Path | None = None,
    recursive: bool = False,
    template: str = TEMPLATE,
    overwrite: bool = False,
    skip_existing: bool = False,
    comparison: bool = False,
    record: bool = True,
    executor: Executor | None = None,
    **options: Any,
) -> Iterator[Outcome]:
    """Restore many images with the same options, and yield one `Outcome` per image, in order.

    If an image fails, its outcome says so and the other images are still restored. The prior is loaded once. While one
    image is computed, the next one is read and the previous one is written.

    Args:
        sources: files, folders, patterns or URLs (see `invsolve restore`), or images in a form that `restore` accepts.
        task: see `restore`.
        out: the output folder; if None, the outcomes hold the restorations instead.
        recursive: also search subfolders.
        template: template of the file names, with {stem}, {ext} and {name}.
        overwrite: replace existing files.
        skip_existing: skip images that an earlier call has restored into `out`.
        comparison, record: whether to write a comparison figure and a JSON record beside each restored image.
        executor: runs the restorations, for example `invsolve.execution.workers.Workers(restore_item, 4)`; if not
            given, they run in this process. It is closed at the end. It needs `out`, and a prior given by name.
        options: see `restore`.

    Raises:
        InputError: unusable options, files that already exist, or a missing file.
    """
    told = Options.of(task, **options)
    if isinstance(sources, Image) or hasattr(sources, "shape") or hasattr(sources, "getpixel"):
        raise InputError("restore_many takes a list of images, got one image: use restore, or put it into a list")
    words = [sources] if isinstance(sources, str | Path) else list(sources)
    if executor is not None and out is None:
        raise InputError("an executor writes files: name a folder with out")
    if all(isinstance(word, str | Path) for word in words):
        found = find([str(word) for word in words], recursive=recursive)
        check_options(told)
        if out is None:
            return _in_memory([(entry.source, entry) for entry in entries(found)], told)
        found = without_outputs(
            found, *([output_path(entry, place, template) for entry in entries(found)] for place in (Path(out), None))
        )
        batch = Batch(told, overwrite, skip_existing, comparison, record)
        items = [Item(entry, output_path(entry, Path(out), template), batch) for entry in entries(found)]
        check_items(items)
        return restore_batch(items, executor)
    if out is not None:
        raise InputError("arrays have no file names: omit out and executor, or give files")
    return _in_memory([(f"image {i}", word) for i, word in enumerate(words)], told)


def _in_memory(sources: Sequence[tuple[str, Entry | Source]], options: Options) -> Iterator[Outcome]:
    for name, source in sources:
        began = time.perf_counter()
        try:
            if isinstance(source, Entry):
                with local(source) as path:
                    done = run_pages(jobs_of(path, options, ".tif"), kept_prior(options))
            else:
                done = run(prepare(source, options), kept_prior(options))
        except Exception as error:
            yield Outcome(name, "failed", error=_sentence(error), seconds=time.perf_counter() - began)
            continue
        yield Outcome(name, "restored", None, seconds=time.perf_counter() - began, record=done.record, restoration=done)


def restore_batch(
    items: Sequence[Item],
    executor: Executor | None = None,
    callbacks: Callable[[Item], Sequence[Callback]] | None = None,
) -> Iterator[Outcome]:
    """Restore the items in this process, or with an executor that runs `restore_item`; yield the outcomes in order.

    Args:
        items: see `Item`.
        executor: runs the restorations; it is closed at the end.
        callbacks: returns the solver callbacks for an item that is restored in this process.

    Raises:
        InputError: options that are invalid for every image; no work was started.
    """
    if items:
        check_options(items[0].batch.options)
        if len(items) > 1:  # a prior that fails to load fails for every image
            kept_prior(items[0].batch.options)
    if executor is not None:
        release_prior()  # every worker loads its own, perhaps on the same GPU
    if executor is None:
        return _here(items, callbacks or (lambda item: ()))
    return _by_executor(items, executor)


def _by_executor(items: Sequence[Item], executor: Executor) -> Iterator[Outcome]:
    """Yield the outcomes of the workers in the order of the items."""
    done: dict[int, Outcome] = {}
    following = 0
    try:
        for index, content, reason in outcomes(executor, items):
            item = items[index]
            done[index] = (
                _outcome(content) if content is not None else _failed(item, InvsolveError(reason), 0.0, started=True)
            )
            while following in done:
                yield done.pop(following)
                following += 1
    finally:
        executor.close()


def restore_item(item: Item) -> bytes:
    """Restore one item in a worker and return its outcome as JSON. No error is raised."""
    with nullcontext() if item.batch.threads is None else threads(item.batch.threads):
        (outcome,) = _here([item], lambda item: ())
    plain = {
        "source": outcome.source, "status": outcome.status, "path": os.fspath(outcome.path or ""),
        "error": outcome.error, "seconds": outcome.seconds, "record": outcome.record, "started": outcome.started,
    }  # fmt: skip
    return json.dumps(plain, default=str).encode()


def _outcome(content: bytes) -> Outcome:
    plain = json.loads(content)
    return Outcome(**{**plain, "path": Path(plain["path"]) if plain["path"] else None})


def _here(items: Sequence[Item], callbacks: Callable[[Item], Sequence[Callback]]) -> Iterator[Outcome]:
    """Restore the items one by one; meanwhile the next is read and the previous one is written."""
    waiting: deque[Future[Outcome] | Outcome] = deque()
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        ahead = reader.submit(_prepared, items[0]) if items else None
        for i, item in enumerate(items):
            assert ahead is not None
            began, jobs = time.perf_counter(), ahead.result()
            ahead = reader.submit(_prepared, items[i + 1]) if i + 1 < len(items) else None
            if isinstance(jobs, Outcome):
                waiting.append(jobs)
            else:
                waiting.append(_computed(item, jobs, began, callbacks(item), writer))
            while waiting and (len(waiting) > WAITING or isinstance(waiting[0], Outcome) or waiting[0].done()):
                yield _result(waiting.popleft())
        while waiting:
            yield _result(waiting.popleft())


def _result(outcome: Future[Outcome] | Outcome) -> Outcome:
    return outcome if isinstance(outcome, Outcome) else outcome.result()


def _prepared(item: Item) -> Iterator[Job] | Outcome:
    """Read an image and prepare its jobs, further pages on demand; or return its outcome if it is skipped or fails."""
    batch = item.batch
    began = time.perf_counter()
    try:
        if batch.skip_existing and is_finished(item.path, record=batch.record):
            return Outcome(item.entry.source, "skipped", item.path)
        jobs = _jobs(item)
        return itertools.chain([next(jobs)], jobs)
    except Exception as error:
        return _failed(item, error, time.perf_counter() - began, started=False)


def _jobs(item: Item) -> Iterator[Job]:
    with local(item.entry) as path:
        for job in jobs_of(path, item.batch.options, item.path.suffix):
            told = job.record["input"] if is_file(item.entry) else {**job.record["input"], "path": item.entry.source}
            yield replace(job, record={**job.record, "input": told})


def _computed(
    item: Item, jobs: Iterator[Job], began: float, callbacks: Sequence[Callback], writer: ThreadPoolExecutor
) -> Future[Outcome] | Outcome:
    try:
        restoration = run_pages(jobs, kept_prior(item.batch.options), callbacks=callbacks)
    except Exception as error:
        return _failed(item, error, time.perf_counter() - began, started=True)
    return writer.submit(_written, item, restoration, began)


def _written(item: Item, restoration: Restoration, began: float) -> Outcome:
    batch = item.batch
    if batch.command is not None:
        restoration.record["command"] = batch.command
    try:
        save(
            restoration, item.path, overwrite=batch.overwrite or batch.skip_existing, comparison_too=batch.comparison,
            record_too=batch.record, quality=batch.output_quality, deep=item.deep,
        )  # fmt: skip
    except Exception as error:
        return _failed(item, error, time.perf_counter() - began, started=True)
    seconds = time.perf_counter() - began
    return Outcome(item.entry.source, "restored", item.path, "", seconds, restoration.record)


def _failed(item: Item, error: Exception, seconds: float, *, started: bool) -> Outcome:
    """The outcome of a failure. A record is written if records are enabled and no earlier run succeeded."""
    sentence = _sentence(error)
    if item.batch.record and item.batch.failures and not is_finished(item.path, record=True):
        record: dict[str, Any] = {"input": {"path": item.entry.source}, "status": ["failed"], "error": sentence}
        if not isinstance(error, InvsolveError):
            record["traceback"] = "".join(traceback.format_exception(error))
        write_record(targets(item.path, None)["record"], record)
    return Outcome(item.entry.source, "failed", item.path, sentence, seconds, started=started)


def _sentence(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, InvsolveError) else f"unexpected {type(error).__name__}: {text}"
