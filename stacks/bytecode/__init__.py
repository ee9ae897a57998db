"""Bytecode for Lambda, the same on every machine.

Bytecode of another Python version is of no use on Lambda, and few machines have Lambda's version. So the files are compiled by
Pyodide: CPython compiled to WebAssembly, a package that the setup installs beside the CDK command line. It runs in Node.js, which
CDK needs anyway. It is pinned, so two machines write the same bytes, whatever Python they have.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[2]
COMPILE = Path(__file__).with_name("compile.mjs")
COMPILER = "node_modules/pyodide"


class BytecodeError(RuntimeError):
    """The files could not be compiled. The message is one line with the remedy."""


def compiler_version() -> str:
    """The version that package-lock.json pins."""
    lock = json.loads((ROOT / "package-lock.json").read_text(encoding="utf-8"))
    version: str = lock["packages"][COMPILER]["version"]
    return version


def compile_folder(folder: Path, *, python_version: str, shown_as: str) -> Mapping[str, str]:
    """Write the bytecode of all Python files in a folder beside them.

    Python takes the bytecode without a look at the source (PEP 552, unchecked hash): a timestamp would make a new asset of
    unchanged sources, and Lambda's sources do not change.

    Args:
        folder: with its folders.
        python_version: that the bytecode is for, such as `3.14`.
        shown_as: the path that tracebacks show in place of the folder's.

    Returns:
        What could not be compiled, by path relative to the folder, with the compiler's words.

    Raises:
        BytecodeError: the compiler is missing, is of another version, or ended early.
    """
    _check_installed()
    command = ["node", str(COMPILE), str(folder), shown_as]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise BytecodeError(f"the bytecode compiler ({COMPILER}) ended early: {last}")
    answer = json.loads(done.stdout.splitlines()[-1])
    if answer["python_version"] != python_version:
        raise BytecodeError(
            f"package.json: pyodide must be a version that carries Python {python_version}, "
            f"got: {compiler_version()}, which carries Python {answer['python_version']}"
        )
    failed: Mapping[str, str] = answer["failed"]
    return failed


def _check_installed() -> None:
    wanted = compiler_version()
    try:
        found = json.loads((ROOT / COMPILER / "package.json").read_text(encoding="utf-8"))["version"]
    except FileNotFoundError:
        found = "none"
    if found != wanted:
        raise BytecodeError(
            f"the bytecode compiler {COMPILER} must be version {wanted}, got: {found}; "
            "./scripts/winnow --version installs it"
        )
