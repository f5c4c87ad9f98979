"""Advice of `make check`: files over 300 lines and functions over 60, which may hold two ideas. It fails nothing."""

from __future__ import annotations

import ast
from pathlib import Path

FILE, FUNCTION = 300, 60


def body_length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function's body, without its docstring."""
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    return (node.end_lineno or 0) - (body[0].lineno if body else node.lineno) + 1


def advice(text: str, name: str) -> list[str]:
    """What is long in a source text, a line each."""
    lines = text.count("\n")
    found = [f"{name}: {lines} lines"] if lines > FILE else []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (length := body_length(node)) > FUNCTION:
            found.append(f"{name}:{node.lineno}: {node.name} has {length} lines")
    return found


if __name__ == "__main__":
    root = Path(__file__).parent.parent
    for path in sorted((root / "invsolve").rglob("*.py")):
        for line in advice(path.read_text(encoding="utf-8"), str(path.relative_to(root))):
            print(f"long: {line}")  # noqa: T201
