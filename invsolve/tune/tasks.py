"""The degradations for tuning, which each task declares for its sections of the preset tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from invsolve.bench.suite import TaskSpec
from invsolve.core.checks import InputError, nearest
from invsolve.core.options import options_of
from invsolve.tasks import TASKS

__all__ = ["Sections", "sections"]

Sections: TypeAlias = Mapping[str, tuple[TaskSpec, ...]]
"""Degradations by section of the preset tables."""


def sections(names: Sequence[str] = (), changes: Mapping[str, Any] | None = None) -> Sections:
    """Return the sections with these names and those of the tasks with these names; without names, all sections.

    Args:
        names: names of tasks ("superres") or sections ("superres2").
        changes: "noise", and options of the tasks in a suite; these options replace all declared options.

    Raises:
        InputError: if a name or an option does not exist.
    """
    declared = {
        task: {
            name: tuple(TaskSpec(name, task, noise, dict(options)) for noise, options in draws)
            for name, draws in TASKS[task].tuning.items()
        }
        for task in TASKS
    }
    parts = {name for own in declared.values() for name in own}
    chosen: dict[str, tuple[TaskSpec, ...]] = {}
    for name in names or declared:
        if name in TASKS:
            own = declared[name]
            if not own and names:
                own = {name: (TaskSpec(name, name, TASKS[name].simulated_noise),)}
        elif name in parts:
            own = {name: tuple(spec for other in declared.values() for spec in other.get(name, ()))}
        else:
            raise InputError(f"unknown task to tune {name!r}; {nearest(name, {*parts, *TASKS})}")
        for part, specs in own.items():
            chosen[part] = chosen.get(part, ()) + specs
    return _changed(chosen, changes) if changes else chosen


def _changed(chosen: Sections, changes: Mapping[str, Any]) -> Sections:
    from invsolve.bench.tasks import section

    options = {name: value for name, value in changes.items() if name != "noise"}
    found: dict[str, tuple[TaskSpec, ...]] = {}
    used: set[str] = set()
    for specs in chosen.values():
        for spec in specs:
            known = options_of(TASKS[spec.kind].suite_type())
            own = {name: value for name, value in options.items() if name in known}
            used |= set(own)
            changed = dataclasses.replace(spec, options=own or spec.options, noise=changes.get("noise", spec.noise))
            part = section(changed) or spec.kind
            changed = dataclasses.replace(changed, name=part)
            if changed not in found.get(part, ()):
                found[part] = (*found.get(part, ()), changed)
    for name in options:
        if name not in used:
            raise InputError(f"none of the tasks to tune has the option --{name.replace('_', '-')}")
    return found
