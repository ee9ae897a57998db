"""The version of a worker's code: it changes with what may change the worker's answer, and with nothing else.

Failures are recorded under it. Another version is the reason to try a permanent failure again, so a change to one worker must not
make the failures of its neighbours look worth replaying.
"""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_lambda as lambda_

from stacks.constructs.lambda_code import CONSTRAINTS, NOT_SHIPPED, RUNTIME, SOURCES, digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LOADED_ON_FIRST_USE = {"winnow": ("winnow.core.errors", "winnow.core.record", "winnow.runtime.decorator")}
"""What a package imports only when a name of it is asked for; no import statement says so."""


def code_version(
    worker: str,
    *,
    requirements: str | None = None,
    settings: Mapping[str, object],
    code: lambda_.Code | None = None,
    sources: Path = SOURCES,
) -> str:
    """A short hash of all that decides what a worker makes of a record.

    Args:
        worker: dotted path of the function.
        requirements: file of the packages that it needs, relative to `lambdas/`.
        settings: its environment, memory and timeout, without unresolved tokens.
        code: where it is given code of its own, instead of what lies under `lambdas/`.
        sources: the folder `lambdas/`.
    """
    files = list(shipped_with(worker.rpartition(".")[0], sources=sources))
    if requirements:
        files.append(sources / requirements)
    return digest(
        [*files, CONSTRAINTS],
        RUNTIME.name,
        worker,
        json.dumps(settings, sort_keys=True),
        _fingerprint(code),
        sources=sources,
    )


def shipped_with(module: str, *, sources: Path = SOURCES) -> set[Path]:
    """The files under `lambdas/` that a module needs: what it imports, near and far, and data that lies beside.

    Imports within functions count. A module that does not lie under `lambdas/` adds none.
    """
    found: set[Path] = set()
    todo = [module]
    seen: set[str] = set()
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        file = _file_of(name, sources)
        todo += [name.rpartition(".")[0]] if "." in name else []  # a package is imported before what is in it
        todo += LOADED_ON_FIRST_USE.get(name, ())
        if file:
            found |= {file, *_data_beside(file)}
            todo += _imports(file, name)
    return found


def _file_of(module: str, sources: Path) -> Path | None:
    path = sources.joinpath(*module.split("."))
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if module and file.is_file():
            return file
    return None


def _data_beside(file: Path) -> Iterator[Path]:
    for other in file.parent.iterdir():
        if other.is_file() and other.suffix not in {".py", ".pyc"} and not other.name.startswith("."):
            yield other


def _imports(file: Path, module: str) -> Iterator[str]:
    """Names of what a file imports; those that are no modules are found to have no file."""
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")[: -(node.level - 1) or None] if node.level else []
            base = ".".join([*parts, *filter(None, [node.module])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _fingerprint(code: lambda_.Code | None) -> str:
    """Of the folder or file that code was given as; other kinds are known by their kind only."""
    if code is None:
        return ""
    if isinstance(code, lambda_.AssetCode):
        return cdk.FileSystem.fingerprint(
            code.path, exclude=list(NOT_SHIPPED), ignore_mode=cdk.IgnoreMode.GIT
        )
    return type(code).__name__
