from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from aws_cdk import App, Stack
from aws_cdk import aws_lambda as lambda_

import stacks.bytecode
from stacks.bytecode import COMPILER, BytecodeError, compile_folder, compiler_version
from stacks.constructs import lambda_code
from stacks.constructs.lambda_code import (
    OWN_REQUIREMENTS,
    PYTHON_VERSION,
    ROOT,
    SOURCES,
    BundlingError,
    LambdaCode,
    PipBundler,
    check_pins,
    check_size,
    compile_bytecode,
    copy_sources,
    digest,
    set_modes,
    source_files,
    strip,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

UNCHECKED_HASH = 0b01
"""Flags in a .pyc, PEP 552."""


def function(stack: Stack, name: str, code: lambda_.Code) -> lambda_.Function:
    return lambda_.Function(stack, name, code=code, handler="a.b", runtime=lambda_.Runtime.PYTHON_3_14)


def staged(assembly: Path) -> list[set[str]]:
    """What each asset holds at its top."""
    return [{entry.name for entry in asset.iterdir()} for asset in assembly.glob("asset.*")]


def synthesize(tmp_path: Path, codes: Iterable[lambda_.Code]) -> list[set[str]]:
    app = App(outdir=str(tmp_path), builtin_cloud_formation_validation=False)
    stack = Stack(app, "Stack")
    for number, code in enumerate(codes):
        function(stack, f"Function{number}", code)
    app.synth()
    return staged(tmp_path)


@pytest.fixture
def pretended_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packages without an index."""

    def install(_bundler: PipBundler, target: Path) -> None:
        package = target / "aws_lambda_powertools"
        (package / "tests").mkdir(parents=True)
        (package / "__init__.py").write_text("answer = 42\n", encoding="utf-8")

    monkeypatch.setattr(PipBundler, "_install", install)


def test_own_functions_ship_without_anybodys_workers(tmp_path: Path) -> None:
    (own,) = synthesize(tmp_path, [LambdaCode(bundled=False).own])

    assert own == {"winnow"}


def test_workers_ship_with_all_sources(tmp_path: Path) -> None:
    (worker,) = synthesize(tmp_path, [LambdaCode(bundled=False).worker(None)])

    assert {"winnow", "catalogue"} <= worker


def test_sources_ship_without_this_machines_bytecode(tmp_path: Path) -> None:
    synthesize(tmp_path, [LambdaCode(bundled=False).worker(None)])

    assert not [*tmp_path.rglob("*.pyc"), *tmp_path.rglob("__pycache__")]


def test_functions_with_the_same_code_share_an_asset(tmp_path: Path) -> None:
    code = LambdaCode(bundled=False)
    requirements = "catalogue/requirements.txt"

    assets = synthesize(tmp_path, [code.own, code.own, code.worker(requirements), code.worker(requirements)])

    assert len(assets) == 2


@pytest.mark.usefixtures("pretended_pip")
def test_bundles_sources_and_packages_without_docker(tmp_path: Path) -> None:
    (own,) = synthesize(tmp_path, [LambdaCode(bundled=True).own])

    assert own == {"winnow", "aws_lambda_powertools"}
    assert not [*tmp_path.rglob("tests")]


def test_says_what_pip_could_not_find(tmp_path: Path) -> None:
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("--no-index\nno-such-package\n", encoding="utf-8")

    with pytest.raises(
        BundlingError, match=r"pip could not gather .*requirements\.txt(.|\n)*no-such-package"
    ):
        PipBundler(requirements=[requirements]).try_bundle(str(tmp_path / "out"), None)


def test_gathers_what_lambdas_python_needs_not_what_this_one_does(tmp_path: Path) -> None:
    for name in ("always", "backport", "for-newer"):
        write_wheel(tmp_path, name)
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(
        f"--no-index\n--find-links {tmp_path}\nalways\n"
        "backport; python_version < '3.14'\nfor-newer; python_full_version >= '3.14.0'\n",
        encoding="utf-8",
    )

    PipBundler(requirements=[requirements])._install(tmp_path / "out")

    assert {path.name for path in (tmp_path / "out").glob("*.dist-info")} == {
        "always-1.0.dist-info",
        "for_newer-1.0.dist-info",
    }


def write_wheel(folder: Path, name: str) -> None:
    stem = f"{name.replace('-', '_')}-1.0"
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{stem}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        wheel.writestr(
            f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{stem}.dist-info/RECORD", "")


def test_an_app_that_cannot_be_bundled_says_so_in_one_line(tmp_path: Path) -> None:
    app = """
import sys
from aws_cdk import App, Stack, aws_lambda as lambda_
from stacks.constructs.lambda_code import BundlingError, LambdaCode, PipBundler

def refuse(bundler, target):
    raise BundlingError("constraints.txt must pin it")

PipBundler._install = refuse
app = App(outdir=sys.argv[1])
code = LambdaCode(bundled=True).own
lambda_.Function(Stack(app, "Stack"), "F", code=code, handler="a.b", runtime=lambda_.Runtime.PYTHON_3_14)
"""

    done = subprocess.run(
        [sys.executable, "-c", app, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 1
    # What Node and CDK say besides is their own.
    assert done.stderr.splitlines()[-1] == "constraints.txt must pin it", done.stderr
    assert "Traceback" not in done.stderr


def test_names_a_requirements_file_that_is_missing() -> None:
    with pytest.raises(BundlingError, match=r"requirements must be a file under .*lambdas, got: 'mine\.txt'"):
        LambdaCode(bundled=False).worker("mine.txt")


def test_ships_bytecode_that_python_takes_unchecked_and_that_stays_the_same(tmp_path: Path) -> None:
    compiled = []
    for name in ("first", "second"):
        target = tmp_path / name
        (target / "package").mkdir(parents=True)
        (target / "package" / "module.py").write_text("WORDS = {'a', 'b', 'c'}\nx = 'a' in {'a', 'b', 'c'}\n")
        compile_bytecode(target)
        (file,) = target.rglob("*.pyc")
        compiled.append(file.read_bytes())

    assert file.name == f"module.cpython-{PYTHON_VERSION.replace('.', '')}.pyc", (
        "of Lambda's Python, not of this one"
    )
    assert struct.unpack("<I", compiled[0][4:8])[0] == UNCHECKED_HASH
    assert b"/var/task/package/module.py" in compiled[0], "tracebacks name the file as it is on Lambda"
    assert compiled[0] == compiled[1]


def test_refuses_a_source_that_lambdas_python_cannot_load(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(lambda_code, "SOURCES", tmp_path / "lambdas")
    for root in ("lambdas", "out"):
        (tmp_path / root).mkdir()
        (tmp_path / root / "mine.py").write_text("def f(:\n", encoding="utf-8")
    (tmp_path / "out" / "template.py").write_text("{{ of a package }}\nclass", encoding="utf-8")

    with pytest.raises(
        BundlingError, match=rf"^lambdas/mine\.py must be Python {PYTHON_VERSION}, got: .*line 1"
    ):
        compile_bytecode(tmp_path / "out")


@pytest.mark.parametrize(("installed", "got"), [(None, "none"), ("314.0.1", "314.0.1")])
def test_says_how_to_install_a_compiler_that_is_missing_or_of_another_version(
    installed: str | None, got: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "package-lock.json").write_text(f'{{"packages": {{"{COMPILER}": {{"version": "314.0.7"}}}}}}')
    if installed:
        (tmp_path / COMPILER).mkdir(parents=True)
        (tmp_path / COMPILER / "package.json").write_text(f'{{"version": "{installed}"}}')
    monkeypatch.setattr(stacks.bytecode, "ROOT", tmp_path)

    with pytest.raises(BundlingError) as refused:
        compile_bytecode(tmp_path)

    assert str(refused.value) == (
        f"the bytecode compiler node_modules/pyodide must be version 314.0.7, got: {got}; "
        "./scripts/winnow --version installs it"
    )


def test_refuses_a_compiler_of_another_python(tmp_path: Path) -> None:
    with pytest.raises(
        BytecodeError, match=rf"must be a version that carries Python 3\.15, got: {compiler_version()}"
    ):
        compile_folder(tmp_path, python_version="3.15", shown_as="/var/task")


def test_names_the_pin_that_is_missing(tmp_path: Path) -> None:
    for name, version in {
        "Jmespath": "9.9",
        "no_such.thing": "1.2",
        "aws_lambda_powertools": "3.37.0",
    }.items():
        folder = tmp_path / f"{name}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")

    with pytest.raises(BundlingError) as refused:
        check_pins(tmp_path, [OWN_REQUIREMENTS])

    assert str(refused.value) == (
        "constraints.txt must pin every package that is shipped, so that all machines ship the same; "
        "add, for lambdas/winnow/requirements.txt: no_such.thing==1.2"
    )


@pytest.mark.parametrize("umask", [0o077, 0o000])
def test_lambda_can_read_what_is_shipped_whatever_the_umask(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        (tmp_path / "package").mkdir()
        (tmp_path / "package" / "module.py").touch()
        (tmp_path / "library.so").touch(0o700)
    finally:
        os.umask(before)

    set_modes(tmp_path)

    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    assert modes == {"package": 0o755, "module.py": 0o644, "library.so": 0o755}


def test_refuses_what_lambda_would_refuse_with_the_arithmetic(tmp_path: Path) -> None:
    for name, megabytes in {"polars": 200, "pyarrow": 100, "winnow": 0}.items():
        (tmp_path / name).mkdir()
        with (tmp_path / name / "library.so").open("wb") as file:
            file.truncate(megabytes * 1_000_000)

    with pytest.raises(
        BundlingError, match=re.escape("got: 300 MB (polars 200 MB, pyarrow 100 MB, winnow 0 MB)")
    ):
        check_size(tmp_path)


def test_strips_what_no_function_runs(tmp_path: Path) -> None:
    for name in ("pyarrow/tests/data", "pyarrow/include/arrow", "bin", "winnow/testing"):
        (tmp_path / name).mkdir(parents=True)

    strip(tmp_path)

    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == [
        "pyarrow",
        "winnow",
        "winnow/testing",
    ]


def test_copies_sources_over_packages_of_the_same_name(tmp_path: Path) -> None:
    (tmp_path / "winnow").mkdir()
    (tmp_path / "winnow" / "settings.py").write_text("somebody else's", encoding="utf-8")

    copy_sources(tmp_path, ["winnow"])

    assert (tmp_path / "winnow" / "settings.py").read_bytes() == (
        SOURCES / "winnow" / "settings.py"
    ).read_bytes()
    assert not (tmp_path / "catalogue").exists()


def test_the_version_of_the_code_changes_with_its_sources() -> None:
    files = source_files(["winnow"])

    assert OWN_REQUIREMENTS in files
    assert digest(files) == digest(reversed(files))
    assert digest(files) != digest(files[1:])
    assert digest(files, "python3.14") != digest(files, "python3.15")


def test_what_is_shipped_is_what_the_fingerprint_covers(tmp_path: Path) -> None:
    copy_sources(tmp_path)

    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == len(source_files())
