"""The public interface as text: `python tests/public_api.py` writes public_api.txt after a change that is meant."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path

FILE = Path(__file__).with_name("public_api.txt")
MODULES = (
    "invsolve", "invsolve.costs", "invsolve.diagnostics", "invsolve.io", "invsolve.metrics", "invsolve.operators",
    "invsolve.priors", "invsolve.solvers", "invsolve.testing",
)  # fmt: skip


def parameters(value: object) -> str:
    """The parameters of a class or function: names in their order, "=" after those that may be left out."""
    try:
        signature = inspect.signature(value)  # pyright: ignore[reportArgumentType]
    except ValueError:  # a type without a signature of its own
        return "(...)"
    words, named = [], False
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not named:
            words.append("*")
            named = True
        star = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        named = named or star == "*"
        words.append(f"{star}{parameter.name}{'' if parameter.default is parameter.empty else '='}")
    return f"({', '.join(words)})"


def lines() -> Iterator[str]:
    """A line for each public object."""
    for module in MODULES:
        home = importlib.import_module(module)
        for name in sorted(home.__all__):
            value = getattr(home, name)
            known = inspect.isclass(value) or inspect.isroutine(value)
            yield f"{module}.{name}{parameters(value) if known else ''}"


def broken(old: str, new: str) -> bool:
    """Whether a call that was right by the line `old` may be wrong by the line `new`."""
    (name, _, before), (other, _, after) = old.partition("("), new.partition("(")
    were, are = ([word for word in part.rstrip(")").split(", ") if word] for part in (before, after))
    if name != other or were == are:
        return name != other
    required = [word for word in are if "=" not in word and "*" not in word]
    positional = were[: were.index("*")] if "*" in were else were
    kept = all(any(word.rstrip("=") == there.rstrip("=") for there in are) for word in were)
    in_place = [word.rstrip("=") for word in are[: len(positional)]] == [word.rstrip("=") for word in positional]
    return not kept or not in_place or any(word not in were for word in required)


if __name__ == "__main__":
    FILE.write_text("\n".join(lines()) + "\n")
