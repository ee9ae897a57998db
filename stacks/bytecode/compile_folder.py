"""Runs on the CPython that writes Lambda's bytecode, not on this machine's: see `compile.mjs`."""

import json
import py_compile
import sys
import warnings
from pathlib import Path


def compile_folder(folder: str, shown_as: str) -> str:
    """Compile all Python files; the answer is JSON, which any JavaScript can take."""
    # Of packages that nobody here can change.
    warnings.simplefilter("ignore")
    failed = {}
    for file in sorted(Path(folder).rglob("*.py")):
        name = file.relative_to(folder).as_posix()
        try:
            py_compile.compile(
                str(file),
                dfile=f"{shown_as}/{name}",
                doraise=True,
                invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
            )
        except py_compile.PyCompileError as error:
            failed[name] = str(error.exc_value)
    return json.dumps(
        {"python_version": f"{sys.version_info.major}.{sys.version_info.minor}", "failed": failed}
    )
