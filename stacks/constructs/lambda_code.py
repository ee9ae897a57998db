"""What is shipped to Lambda: the sources under `lambdas/`, and the packages that they need."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, cast

import jsii
from aws_cdk import AssetHashType, BundlingOptions, DockerImage, IgnoreMode, ILocalBundling
from aws_cdk import aws_lambda as lambda_

from stacks.bytecode import BytecodeError, compile_folder, compiler_version

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "lambdas"
BYTECODE = ROOT / "stacks" / "bytecode"
CONSTRAINTS = ROOT / "constraints.txt"
OWN_REQUIREMENTS = SOURCES / "winnow" / "requirements.txt"
PARQUET_REQUIREMENTS = SOURCES / "winnow" / "requirements-parquet.txt"
QUALITY_REQUIREMENTS = SOURCES / "winnow" / "requirements-quality.txt"
TRACER_REQUIREMENTS = SOURCES / "winnow" / "requirements-tracer.txt"

RUNTIME = lambda_.Runtime.PYTHON_3_14
ARCHITECTURE = lambda_.Architecture.ARM_64
"""A fifth cheaper than x86 for the same time."""

PYTHON_VERSION = RUNTIME.name.removeprefix("python")
WHEEL_PLATFORMS = (
    *(f"manylinux_2_{minor}_aarch64" for minor in (34, 31, 28, 27, 26, 24, 17)),
    "manylinux2014_aarch64",
)
"""Lambda's Amazon Linux 2023 has glibc 2.34; a wheel names the oldest glibc that it runs on, and pip wants each spelt out."""

MAX_UNZIPPED_MB = 250
"""Lambda's limit for a function with its layers."""

NOT_SHIPPED = ("__pycache__", "*.pyc", ".*")
"""Of the sources: bytecode of this machine's Python, and what editors leave behind."""

PIP = f"""
import platform, runpy
platform.python_version = lambda: "{PYTHON_VERSION}.0"
platform.python_version_tuple = lambda: ("{PYTHON_VERSION}.0").split(".")
runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""
"""pip chooses wheels for the Python it is told, but asks its own Python whether a requirement for some versions applies."""

INSTALLERS_NOTES = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")
"""What pip notes beside a package's metadata: paths and hashes of this machine's, and no function reads them."""

PIN = re.compile(r"^\s*([A-Za-z0-9._-]+)\s*(?:\[[^]]*\])?\s*==\s*([^\s;#,*]+)", re.MULTILINE)


class BundlingError(SystemExit):
    """What a function needs could not be gathered. The message is for whoever deploys.

    CDK calls the bundler through jsii, which answers an exception with a hundred lines. An exit passes through it, and leaves
    the message as it is.
    """


class LambdaCode:
    """The code of one stack's functions, so that functions with the same code share one asset.

    Bundling runs pip for Lambda's platform, so it needs neither Docker nor this machine to be like Lambda. It is
    left out where packages are there already (an emulator that runs functions in the virtual environment).
    """

    def __init__(self, *, bundled: bool, tracer_sdk: bool = False) -> None:
        self._bundled = bundled
        self._base = (OWN_REQUIREMENTS, TRACER_REQUIREMENTS) if tracer_sdk else (OWN_REQUIREMENTS,)
        self._codes: dict[tuple[Path, ...], lambda_.Code] = {}

    @functools.cached_property
    def own(self) -> lambda_.Code:
        """Winnow's own functions: the runtime without anybody's workers, whose changes then leave them alone."""
        return self._code(self._base, packages=("winnow",))

    @functools.cached_property
    def own_with_parquet(self) -> lambda_.Code:
        """The same with pyarrow, which is fifty times as big as all the rest."""
        return self._code((*self._base, PARQUET_REQUIREMENTS), packages=("winnow",))

    @functools.cached_property
    def own_with_duckdb(self) -> lambda_.Code:
        """The same with DuckDB, for the quality gate. Not with pyarrow, too: together they are most of what Lambda allows."""
        return self._code((*self._base, QUALITY_REQUIREMENTS), packages=("winnow",))

    def worker(self, requirements: str | None) -> lambda_.Code:
        """A worker: everything under `lambdas/`.

        Args:
            requirements: file of the packages that it needs, relative to `lambdas/`.

        Raises:
            BundlingError: there is no such file.
        """
        if requirements and not (SOURCES / requirements).is_file():
            raise BundlingError(f"requirements must be a file under {SOURCES}, got: {requirements!r}")
        files = (*self._base, SOURCES / requirements) if requirements else self._base
        if files not in self._codes:
            self._codes[files] = self._code(files)
        return self._codes[files]

    def _code(self, requirements: tuple[Path, ...], *, packages: tuple[str, ...] = ()) -> lambda_.Code:
        only = ["/*", *(f"!/{package}" for package in packages)] if packages else []
        if not self._bundled:
            return lambda_.Code.from_asset(
                str(SOURCES), exclude=[*only, *NOT_SHIPPED], ignore_mode=IgnoreMode.GIT
            )
        bundler = PipBundler(requirements=requirements, packages=packages)
        return lambda_.Code.from_asset(
            str(SOURCES),
            asset_hash_type=AssetHashType.CUSTOM,
            asset_hash=bundler.fingerprint(),
            bundling=BundlingOptions(
                # Required, never used: the local bundler does the work or raises.
                image=DockerImage.from_registry("scratch"),
                # jsii hands the options over by position, whatever its stub says.
                local=cast("ILocalBundling", bundler),
            ),
        )


@jsii.implements(ILocalBundling)
class PipBundler:
    """Gathers sources, packages and bytecode in one folder."""

    def __init__(self, *, requirements: Sequence[Path], packages: Sequence[str] = ()) -> None:
        self._requirements = requirements
        self._packages = packages

    def fingerprint(self) -> str:
        """Changes whenever the folder would, and is the same on every machine: what decides it lies in the repository."""
        bundling = [Path(__file__), *(file for kind in ("py", "mjs") for file in BYTECODE.glob(f"*.{kind}"))]
        files = [*source_files(self._packages), *self._requirements, CONSTRAINTS, *bundling]
        return digest(files, RUNTIME.name, ARCHITECTURE.name, compiler_version())

    def try_bundle(self, output_dir: str, _options: object) -> bool:
        """Called by CDK; the options describe a container that is not used.

        Raises:
            BundlingError: pip found no fitting package, a package is not pinned, a source cannot be compiled, or the result
                is too big for Lambda.
        """
        target = Path(output_dir)
        target.mkdir(parents=True, exist_ok=True)
        self._install(target)
        check_pins(target, self._requirements)
        # Before the sources come in: what is called `tests` or `bin` there is the user's business.
        strip(target)
        copy_sources(target, self._packages)
        compile_bytecode(target)
        check_size(target)
        set_modes(target)
        return True

    def _install(self, target: Path) -> None:
        command = [
            sys.executable,
            "-c",
            PIP,
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-compile",
        ]
        command += ["--target", str(target), "--constraint", str(CONSTRAINTS), "--only-binary=:all:"]
        command += ["--implementation", "cp", "--python-version", PYTHON_VERSION]
        for name in WHEEL_PLATFORMS:
            command += ["--platform", name]
        for file in self._requirements:
            command += ["--requirement", str(file)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BundlingError(
                f"pip could not gather {', '.join(map(str, self._requirements))}:\n{done.stderr.strip()}"
            )


def source_files(packages: Iterable[str] = ()) -> list[Path]:
    """Files under `lambdas/` that are shipped; of some packages, or of all."""
    roots = [SOURCES / package for package in packages] or [SOURCES]
    files = [path for root in roots for path in root.rglob("*") if path.is_file()]
    return [path for path in files if not _is_left_behind(path.relative_to(SOURCES))]


def _is_left_behind(path: Path) -> bool:
    return path.suffix == ".pyc" or any(part == "__pycache__" or part.startswith(".") for part in path.parts)


def digest(files: Iterable[Path], *more: str, sources: Path = SOURCES) -> str:
    """A short hash of files, by content and by name within the sources, and of whatever else decides what runs."""
    summary = hashlib.sha256()
    for file in sorted(files):
        summary.update(f"{os.path.relpath(file, sources)}\0".encode())
        summary.update(hashlib.sha256(file.read_bytes()).digest())
    for text in more:
        summary.update(f"{text}\0".encode())
    return summary.hexdigest()[:16]


def copy_sources(target: Path, packages: Iterable[str] = ()) -> None:
    """Copy what is shipped of `lambdas/`, over any package of the same name."""
    for file in source_files(packages):
        copy = target / file.relative_to(SOURCES)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)


def strip(target: Path) -> None:
    """Remove what no function runs: packages' own tests and commands, headers for compilers, and the installer's notes."""
    for name in ("tests", "include", "bin"):
        for folder in [path for path in target.rglob(name) if path.is_dir()]:
            shutil.rmtree(folder, ignore_errors=True)
    for name in INSTALLERS_NOTES:
        for file in target.glob(f"*.dist-info/{name}"):
            file.unlink()


def check_pins(target: Path, requirements: Iterable[Path]) -> None:
    """A package that nothing pins is another one next week, in an asset whose hash stays the same.

    Raises:
        BundlingError: naming what to pin, and where.
    """
    files = [CONSTRAINTS, *requirements]
    pinned = {
        _normal(name): version
        for file in files
        for name, version in PIN.findall(file.read_text(encoding="utf-8"))
    }
    installed = {each.name: each.version for each in metadata.distributions(path=[str(target)])}
    missing = sorted(
        f"{name}=={version}" for name, version in installed.items() if _normal(name) not in pinned
    )
    if missing:
        raise BundlingError(
            f"{CONSTRAINTS.name} must pin every package that is shipped, so that all machines ship the same; "
            f"add, for {', '.join(_shown(file) for file in requirements)}: {' '.join(missing)}"
        )


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _shown(file: Path) -> str:
    return str(file.relative_to(ROOT)) if file.is_relative_to(ROOT) else str(file)


def compile_bytecode(target: Path) -> None:
    """Without bytecode a cold start compiles every module it imports, which nearly doubles it.

    Raises:
        BundlingError: the compiler is missing, or Lambda's Python could not load one of the sources.
    """
    try:
        failed = compile_folder(target, python_version=PYTHON_VERSION, shown_as="/var/task")
    except BytecodeError as error:
        raise BundlingError(str(error)) from None
    # Packages may hold files that this Python cannot compile (templates, other versions): they are not imported.
    for name, reason in failed.items():
        if (SOURCES / name).is_file():
            raise BundlingError(f"lambdas/{name} must be Python {PYTHON_VERSION}, got: {reason}")


def set_modes(target: Path) -> None:
    """Whatever this machine's umask: modes are part of what is uploaded, and Lambda must be able to read the files."""
    for path in (target, *target.rglob("*")):
        is_runnable = path.is_dir() or path.stat().st_mode & 0o100
        path.chmod(0o755 if is_runnable else 0o644)


def check_size(target: Path) -> None:
    """Raises `BundlingError` when Lambda would refuse the folder."""
    sizes = {
        entry.name: sum(path.stat().st_size for path in ([entry, *entry.rglob("*")]) if path.is_file())
        for entry in target.iterdir()
    }
    total_mb = sum(sizes.values()) / 1e6
    if total_mb > MAX_UNZIPPED_MB:
        biggest = sorted(sizes, key=lambda name: sizes[name], reverse=True)[:3]
        shares = ", ".join(f"{name} {sizes[name] / 1e6:.0f} MB" for name in biggest)
        raise BundlingError(
            f"packages must be at most {MAX_UNZIPPED_MB} MB unzipped, got: {total_mb:.0f} MB ({shares})"
        )
