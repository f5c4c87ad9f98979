"""Settings are checked when they are made, by the types and ranges that their annotations give."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest
import torch

import invsolve as iv
from invsolve import solvers
from invsolve.core.settings import AtLeastZero, Count, Positive, Range, Share, Times, check_settings, made_with
from invsolve.solvers import SOLVERS
from invsolve.tasks import TASKS


def made(kind: type, **changes: Any) -> Any:
    """A solver with its defaults, those without one filled in."""
    return kind(**({"scale": solvers.FixedScale()} if kind is solvers.Guidance else {}) | changes)


def plain(hint: Any) -> tuple[Any, Range | None, bool]:
    """The type of a setting, its range, and whether it may be None."""
    args = [arg for arg in get_args(hint) if arg is not NoneType]
    optional = get_origin(hint) not in (Literal, Annotated) and NoneType in get_args(hint)
    if optional and len(args) == 1:
        hint = args[0]
    if get_origin(hint) is Annotated:
        kind, bounds, *_ = get_args(hint)
        return kind, bounds, optional
    return hint, None, optional


def wrong_values(hint: Any) -> list[Any]:
    """Values that no setting of this annotation may have."""
    kind, bounds, optional = plain(hint)
    wrong: list[Any] = [] if optional else [None]
    if kind in (int, float):
        wrong += ["x", "3", math.nan, math.inf, -math.inf, True, [1]]
        wrong += [2.5] if kind is int else []
        if bounds is not None:
            size = 1 if kind is int else 1e-6
            wrong += [bounds.low if bounds.above else bounds.low - size, -1e9] if bounds.low > -math.inf else []
            wrong += [bounds.high if bounds.below else bounds.high + size, 1e9] if bounds.high < math.inf else []
    if kind is bool:
        wrong += [1, "true", "yes"]
    if get_origin(kind) is Literal:
        wrong += ["nonsense", 17, True]
    if get_origin(kind) is tuple:
        wrong += ["x", 3.0, ("x",), (math.nan, 0.0), (2.0, 0.0), (0.5, -0.5)]
    return wrong


SETTINGS = [
    (name, field.name, hint)
    for name in sorted(SOLVERS)
    for field in dataclasses.fields(SOLVERS[name])
    for hint in [get_type_hints(SOLVERS[name], include_extras=True)[field.name]]
]


@pytest.mark.parametrize(("name", "setting", "hint"), SETTINGS, ids=[f"{a}-{b}" for a, b, _ in SETTINGS])
def test_what_a_setting_may_not_be_is_refused_by_its_name(name, setting, hint):
    for value in wrong_values(hint):
        with pytest.raises(iv.InputError, match=rf"^{setting} "):
            made(SOLVERS[name], **{setting: value})


@pytest.mark.parametrize(("name", "setting", "hint"), SETTINGS, ids=[f"{a}-{b}" for a, b, _ in SETTINGS])
def test_every_setting_says_what_it_may_be(name, setting, hint):
    kind = plain(hint)[0]
    assert kind is not Any
    assert kind is not str, "list the words: Literal[...]"
    if kind is int:
        assert plain(hint)[1] is not None, "give its range: Count or Annotated[int, Range(...)]"


@pytest.mark.parametrize("name", sorted(SOLVERS))
def test_numbers_of_numpy_and_lists_make_the_same_solver(name):
    kind = SOLVERS[name]
    default = made(kind)
    for field in dataclasses.fields(kind):
        value = getattr(default, field.name)
        other = value
        if isinstance(value, bool):
            other = np.bool_(value)
        elif isinstance(value, int):
            other = np.int64(value)
        elif isinstance(value, float):
            other = int(value) if value.is_integer() else np.float64(value)
        elif isinstance(value, tuple):
            other = list(value)
        again = made(kind, **{field.name: other})
        assert again == default
        assert hash(again) == hash(default)
        assert repr(again) == repr(default)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: solvers.DPS(zeta="x"), "zeta must be a finite number of at least 0, got 'x'"),
        (lambda: solvers.DPS(zeta=math.nan), "zeta must be a finite number of at least 0, got nan"),
        (lambda: solvers.NDTM(start="nope"), r"start must be one of \('random', 'guided', 'smooth'\), got 'nope'"),
        (lambda: solvers.DDRM(t_start=5), r"t_start must be a finite number in \(0, 1\], got 5"),
        (lambda: solvers.NDTM(gamma=torch.tensor([math.inf])), "gamma must be .*got tensor"),
        (lambda: solvers.NDTM(gamma="x"), "gamma must be a finite number or .* function, got 'x'"),
        (lambda: solvers.NDTM(aggregate=3), "aggregate must be a function or None, got 3"),
        (lambda: solvers.Guidance(3.0), "scale must be a ScaleRule such as AdaptiveScale or ClippedScale, got 3.0"),
        (lambda: solvers.AdaptiveScale(lam=math.nan), "lam must be a finite number of at least 0, got nan"),
        (lambda: solvers.AdaptiveScale(clock="noon"), "clock must be one of"),
        (lambda: solvers.ThresholdScale(quantile=0.0), r"quantile must be a finite number in \(0, 1\]"),
        (lambda: solvers.DiffPIR(times=(0.2, 0.5, 0.0)), "times must fall"),
        (lambda: solvers.FreeDoM(window=(0.7, 0.3)), r"window must be \(low, high\)"),
        (lambda: made_with(solvers.DPS, {"zetta": 1}, "dps"), "dps has no setting 'zetta'; known.*did you mean 'zeta'"),
    ],
)
def test_the_sentence_says_what_was_expected_and_what_came(make, message):
    with pytest.raises(iv.InputError, match=message):
        make()


@dataclass(frozen=True)
class Own:
    level: Positive
    share: Share = 0.5
    weight: AtLeastZero | None = None
    count: Count | Literal["auto"] = "auto"
    times: Times = ()
    angle: float = 0.0

    def __post_init__(self) -> None:
        check_settings(self)


def test_a_dataclass_of_ones_own_is_checked_alike():
    assert Own(1, count=np.int32(3), times=[1, 0]) == Own(1.0, count=3, times=(1.0, 0.0))
    assert Own(torch.tensor(2.0)).level == 2.0
    for name, wrong in (("level", 0), ("count", 0), ("count", "some"), ("angle", math.inf), ("times", (0, 2))):
        with pytest.raises(iv.InputError, match=rf"^{name} "):
            Own(**{"level": 1, name: wrong})


class Unreadable:
    other: NowhereToBeFound  # pyright: ignore[reportUndefinedVariable]  # noqa: F821


@dataclass(frozen=True)
class PartlyReadable(Unreadable):
    n: Count = 3
    unread: NowhereToBeFound = None  # pyright: ignore[reportUndefinedVariable]  # noqa: F821

    def __post_init__(self) -> None:
        check_settings(self)


def test_an_annotation_for_type_checkers_alone_leaves_the_others_in_force():
    assert PartlyReadable(n=4, unread=object()).n == 4
    with pytest.raises(iv.InputError, match=r"n must be a whole number of at least 1, got 0"):
        PartlyReadable(n=0)


def test_what_is_no_dataclass_is_told_so():
    with pytest.raises(iv.InputError, match="must be a dataclass"):
        check_settings(object())


def test_the_annotations_of_tasks_that_check_their_settings_can_be_read():
    """One that cannot, also one of a base class, would switch off the checks of every field."""
    kinds = {kind for task in map(TASKS.__getitem__, TASKS) for kind in (task, task.options, task.suite_options)}
    checked = [kind for kind in kinds if hasattr(kind, "__post_init__")]
    assert TASKS["superres"] in checked
    for kind in checked:
        assert get_type_hints(kind, include_extras=True)
