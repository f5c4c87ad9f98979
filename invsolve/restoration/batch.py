"""Many images: the same options for all, every image once, and no failure that stops the others."""

from __future__ import annotations

import itertools
import json
import os
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from invsolve.core.checks import InputError, InvsolveError
from invsolve.core.driver import Progress
from invsolve.execution.executor import Executor, outcomes
from invsolve.io.inputs import Source
from invsolve.restoration.fetch import is_file, local
from invsolve.restoration.job import Job, check_options, prepare
from invsolve.restoration.loading import kept_prior
from invsolve.restoration.options import Options
from invsolve.restoration.outputs import check_targets, is_finished, save, write_record
from invsolve.restoration.pages import jobs_of, run_pages
from invsolve.restoration.restored import Restoration
from invsolve.restoration.run import run
from invsolve.restoration.sources import TEMPLATE, Entry, entries, find, output_path, targets, without_outputs

__all__ = ["Batch", "Item", "Outcome", "check_items", "restore_batch", "restore_item", "restore_many"]

WAITING = 2
"""Restorations that may wait to be written while the next image is computed."""

Callback = Callable[[Progress], None]


@dataclass(frozen=True)
class Outcome:
    """What became of one image of a batch.

    Attributes:
        source: the file or address, or "image N" for one that was given as an array.
        status: "restored", "skipped" (it had been restored before) or "failed".
        path: of the restoration; None where nothing is written.
        error: a sentence, where it failed.
        seconds: that it took.
        record: what `Restoration.record` holds; empty where it was skipped or failed.
        restoration: itself, where nothing is written.
    """

    source: str
    status: Literal["restored", "skipped", "failed"]
    path: Path | None = None
    error: str = ""
    seconds: float = 0.0
    record: Mapping[str, Any] | None = None
    restoration: Restoration | None = None
    started: bool = True
    """Whether it was read and fitted the options, so that computing began."""


@dataclass(frozen=True)
class Batch:
    """What is done with every image of a batch.

    Args:
        options: of the restorations.
        overwrite: replace files that exist.
        skip_existing: leave images alone that an earlier run has restored.
        comparison, record: whether these files are written beside a restoration.
        output_quality: of JPEG, WebP and AVIF files.
        command: for the record.
        threads: of a worker process; as torch has it if None.
        failures: whether a failure is written down where the record would be.
    """

    options: Options
    overwrite: bool = False
    skip_existing: bool = False
    comparison: bool = True
    record: bool = True
    output_quality: int | None = None
    command: str | None = None
    threads: int | None = None
    failures: bool = True


@dataclass(frozen=True)
class Item:
    """One image and where its restoration goes, as it is sent to workers."""

    entry: Entry
    path: Path
    batch: Batch
    deep: bool = True
    """Whether folders above `path` are made where they are missing."""


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
    """Restore many images with the same options, one `Outcome` after the other, in order.

    A failure is an outcome, never the end. The prior is loaded once; the next image is read and the last one written
    while one is computed.

    Args:
        sources: files, folders, patterns or addresses (see `invsolve restore`), or images as `restore` takes them.
        task: as in `restore`.
        out: the folder that restorations are written to; where it is None the outcomes hold them instead.
        recursive: search folders of folders.
        template: of the files' names, with {stem}, {ext} and {name}.
        overwrite: replace files that exist.
        skip_existing: leave images alone that an earlier call has restored into `out`.
        comparison, record: whether a comparison figure and a JSON record are written beside each restoration.
        executor: where images are restored, for example `invsolve.execution.workers.Workers(restore_item, 4)`; in this
            process if not given. It is closed at the end. It needs `out`, and a prior by name.
        options: see `restore`.

    Raises:
        InputError: options that cannot be used, files that exist, no such file.
    """
    told = Options.of(task, **options)
    words = [sources] if isinstance(sources, str | Path) else list(sources)
    if all(isinstance(word, str | Path) for word in words):
        found = find([str(word) for word in words], recursive=recursive)
        check_options(told)
        if out is None:
            return _in_memory([(entry.source, entry) for entry in entries(found)], told)
        found = without_outputs(
            found, *([output_path(entry, place, template) for entry in entries(found)] for place in (Path(out), None))
        )
        batch = Batch(told, overwrite, skip_existing, comparison, record)
        return restore_batch(_items(entries(found), batch, Path(out), template), executor)
    if out is not None or executor is not None:
        raise InputError("arrays have no names: leave out and executor away, or give files")
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


def _items(chosen: Sequence[Entry], batch: Batch, out: Path | None, template: str) -> list[Item]:
    """Every image with its path; files that exist stop all before anything is begun, unless that was asked for."""
    items = [Item(entry, output_path(entry, out, template), batch) for entry in chosen]
    check_items(items)
    return items


def check_items(items: Sequence[Item]) -> None:
    """Raise `InputError` unless the files of every item can be written, and no two of them have one name."""
    seen: dict[Path, str] = {}
    sources = {os.path.realpath(item.entry.source): item.entry.source for item in items if is_file(item.entry)}
    read = {os.path.realpath(file): flag for item in items[:1] for flag, file in item.batch.options.files.items()}
    for item in items:
        if item.path in seen:
            raise InputError(
                f"{seen[item.path]} and {item.entry.source} would both be written to {item.path}: "
                "give a --template with {stem}, or a folder for each"
            )
        seen[item.path] = item.entry.source
        batch = item.batch
        kinds = {"comparison": batch.comparison, "record": batch.record, "kernel": batch.options.kind.estimates_kernel}
        replaced = batch.overwrite or batch.skip_existing
        check_targets(item.path, batch.options.samples, overwrite=replaced, deep=item.deep, **kinds)
        for target in targets(item.path, batch.options.samples, **kinds).values():
            place = os.path.realpath(target)
            if place in read:
                raise InputError(f"{target} is read as --{read[place]}, and would be overwritten: name another output")
            source = sources.get(place)
            asked = batch.overwrite and source == item.entry.source and target == item.path
            if source is not None and not asked:
                raise InputError(
                    f"{source} is to be restored, and the restoration of {item.entry.source} would overwrite it: give "
                    "another --template, or another folder or file with -o"
                )


def restore_batch(
    items: Sequence[Item],
    executor: Executor | None = None,
    callbacks: Callable[[Item], Sequence[Callback]] | None = None,
) -> Iterator[Outcome]:
    """Restore the items, in this process or by an executor that runs `restore_item`; outcomes come in order.

    Args:
        items: see `Item`.
        executor: it is closed at the end.
        callbacks: of the solver, for an item that is restored in this process.

    Raises:
        InputError: options that no image can be restored with; nothing was begun.
    """
    if items:
        check_options(items[0].batch.options)
        if len(items) > 1:  # what is wrong with the prior is wrong for every image
            kept_prior(items[0].batch.options)
    if executor is None:
        return _here(items, callbacks or (lambda item: ()))
    return _by_executor(items, executor)


def _by_executor(items: Sequence[Item], executor: Executor) -> Iterator[Outcome]:
    """The outcomes of workers, put into the order of the items."""
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
    """One item in a worker: its outcome as JSON. Nothing is raised."""
    if item.batch.threads is not None:
        torch.set_num_threads(item.batch.threads)
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
    """One after the other; the next is read and the last written meanwhile."""
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
    """The image read and everything decided, further pages when they are asked for; or what became of it at once."""
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
    """The outcome of a failure, which is a record where restorations have one, unless an earlier run succeeded."""
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
