"""Who imports whom in the package: the edges that test_architecture.py judges, read from source text."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import invsolve

PACKAGE = Path(invsolve.__file__).parent

PARTS = frozenset({"core", "operators", "costs", "priors", "solvers"})
JOB = PARTS | {"execution", "io", "noise", "metrics", "diagnostics", "tasks", "restoration"}

BELOW: Mapping[str, frozenset[str]] = {
    "core": frozenset(),
    **dict.fromkeys(("operators", "costs", "priors", "solvers", "io"), frozenset({"core"})),
    "diagnostics": PARTS,
    "testing": PARTS,
    "metrics": PARTS | {"diagnostics"},
    "noise": frozenset({"core", "io"}),
    "tasks": PARTS | {"io", "noise"},
    "train": PARTS | {"io", "noise", "tasks"},
    "execution": frozenset({"core"}),
    "restoration": JOB - {"restoration"},
    "bench": JOB,
    "tune": JOB | {"bench", "train"},
    "guiding": PARTS,
    "app": JOB | {"bench", "guiding"},
    "commands": JOB | {"app", "bench", "guiding", "tune", "testing", "train"},
    "__main__": frozenset({"commands"}),
}
"""The rooms that each room may import from, besides itself; the package's own `__init__` looks names up lazily."""


@cache
def rooms() -> frozenset[str]:
    """Folders and files of the package that hold Python."""
    return frozenset(path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in PACKAGE.rglob("*.py"))


def module_of(path: Path) -> str:
    """ "invsolve.core.prior" for its file, the package's name for an `__init__`."""
    parts = ["invsolve", *path.relative_to(PACKAGE).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """The room of a module of the package: "" for the package itself, and for what is none of its modules."""
    parts = module.split(".")
    if parts[0] != "invsolve" or len(parts) == 1:
        return ""
    home = invsolve._HOME_OF.get(parts[1])  # `from invsolve import restore` is an import of its home
    return room_of(home) if home else parts[1]


def imports(source: str, module: str, *, package: bool = False) -> Iterator[tuple[str, ast.AST]]:
    """The modules that a source text imports, by whatever form, at any depth, with the statement.

    Args:
        source: text of the module.
        module: its name, for relative imports.
        package: whether it is an `__init__`.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, module, package=package)
            yield from ((f"{base}.{alias.name}", node) for alias in node.names)
        elif isinstance(node, ast.Call) and _imports_by_name(node.func) and node.args:
            first = node.args[0]
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield first.value, node


def _absolute(node: ast.ImportFrom, module: str, *, package: bool) -> str:
    if not node.level:
        return node.module or ""
    parts = module.split(".")
    parts = parts[: len(parts) - node.level + package]
    return ".".join([*parts, node.module] if node.module else parts)


def _imports_by_name(function: ast.expr) -> bool:
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in ("import_module", "__import__")


def forbidden(source: str, module: str, *, package: bool = False) -> list[str]:
    """What a module imports and may not, as sentences."""
    room = room_of(module) or module.rpartition(".")[2]
    wrong = []
    for target, node in imports(source, module, package=package):
        other = room_of(target)
        if other and other in rooms() and other != room and other not in BELOW[room]:
            wrong.append(f"{module}, line {getattr(node, 'lineno', 0)}: {room} imports {other}")
    return wrong


def at_import(source: str, module: str, *, package: bool = False) -> set[str]:
    """The modules of the package that are imported when the module is: not in functions, not for type checkers."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        for_types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if for_types or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [ast.Pass()]  # pyright: ignore[reportAttributeAccessIssue]
    names = {name for name, _ in imports(ast.unparse(tree), module, package=package)}
    return {_module_in(name) for name in names if name.startswith("invsolve.")} - {module}


def _module_in(name: str) -> str:
    """The module that holds a name: "invsolve.core.prior" for "invsolve.core.prior.Prior"."""
    parts = name.split(".")
    while len(parts) > 1:
        path = PACKAGE.joinpath(*parts[1:])
        if path.with_suffix(".py").is_file() or (path / "__init__.py").is_file():
            break
        parts = parts[:-1]
    return ".".join(parts)


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """The modules of one circle in the order of their imports; none if there is no circle."""
    done: set[str] = set()

    def walk(module: str, path: list[str]) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return []
        for other in sorted(graph.get(module, ())):
            if found := walk(other, [*path, module]):
                return found
        done.add(module)
        return []

    for module in sorted(graph):
        if found := walk(module, []):
            return found
    return []
