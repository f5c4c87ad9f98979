"""What is tuned on: the measurements that each task declares for its sections of the preset tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from invsolve.bench.suite import TaskSpec
from invsolve.bench.tasks import section
from invsolve.core.checks import InputError, nearest
from invsolve.core.options import options_of
from invsolve.tasks import TASKS

__all__ = ["Sections", "sections"]

Sections: TypeAlias = Mapping[str, tuple[TaskSpec, ...]]
"""Degradations by section of the preset tables."""


def sections(names: Sequence[str] = (), changes: Mapping[str, Any] | None = None) -> Sections:
    """The sections of these names, those of the tasks of these names; all that tasks declare if there is no name.

    Args:
        names: of sections ("superres2") or tasks ("superres").
        changes: "noise", and options of the tasks in a suite, which then stand in place of all that they declare.

    Raises:
        InputError: a name or an option that there is not.
    """
    declared = {
        name: tuple(TaskSpec(name, task, noise, dict(options)) for noise, options in draws)
        for task in TASKS
        for name, draws in TASKS[task].tuning.items()
    }
    chosen: dict[str, tuple[TaskSpec, ...]] = {}
    for name in names or declared:
        if name in declared:
            chosen[name] = declared[name]
        elif name in TASKS:
            own = {part: specs for part, specs in declared.items() if specs[0].kind == name}
            chosen |= own or {name: (TaskSpec(name, name, TASKS[name].simulated_noise),)}
        else:
            raise InputError(f"unknown task to tune {name!r}; {nearest(name, {*declared, *TASKS})}")
    return _changed(chosen, changes) if changes else chosen


def _changed(chosen: Sections, changes: Mapping[str, Any]) -> Sections:
    options = {name: value for name, value in changes.items() if name != "noise"}
    found: dict[str, tuple[TaskSpec, ...]] = {}
    used: set[str] = set()
    for specs in chosen.values():
        known = options_of(TASKS[specs[0].kind].suite_type())
        own = {name: value for name, value in options.items() if name in known}
        used |= set(own)
        for spec in specs:
            changed = dataclasses.replace(spec, options=own or spec.options, noise=changes.get("noise", spec.noise))
            part = section(changed) or spec.kind
            changed = dataclasses.replace(changed, name=part)
            if changed not in found.get(part, ()):
                found[part] = (*found.get(part, ()), changed)
    for name in options:
        if name not in used:
            raise InputError(f"--{name.replace('_', '-')} is an option of none of the tasks to tune")
    return found
