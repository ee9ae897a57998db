"""Two people who synthesise the same commit must get the same templates and assets, or they flip each other's functions."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.patience import PATIENCE_SECONDS
from tests.stacks.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

PIP = '''\
"""Stands in for pip: writes what pip writes for pinned requirements, this machine's paths included."""
import pathlib, sys
arguments = sys.argv[1:]
given = lambda option: [arguments[place + 1] for place, each in enumerate(arguments) if each == option]
target = pathlib.Path(given("--target")[0])
for file in given("--requirement"):
    for line in pathlib.Path(file).read_text().splitlines():
        name, _, version = line.partition("==")
        if not version:
            continue
        package, notes = target / name.replace("-", "_"), target / f"{name.replace('-', '_')}-{version}.dist-info"
        for folder in (package, notes, target / "bin"):
            folder.mkdir(exist_ok=True)
        package.joinpath("__init__.py").write_text("WORDS = {'a', 'b', 'c'}\\ndef is_word(text):\\n    return text in {'a', 'b', 'c'}\\n")
        target.joinpath("bin", name).write_text(f"#!{sys.executable} of {pathlib.Path.cwd()}\\n")
        notes.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n")
        notes.joinpath("RECORD").write_text(f"../../bin/{name},{pathlib.Path.cwd()},1\\n")
        notes.joinpath("INSTALLER").write_text(str(target))
'''


@dataclass(frozen=True)
class Checkout:
    """A copy of the work tree in a folder of its own."""

    root: Path

    @classmethod
    def make(cls, root: Path) -> Checkout:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        )
        for name in listed.stdout.decode().split("\0"):
            if name and (ROOT / name).is_file() and not name.startswith("tests/"):
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, root / name)
        (root / "node_modules").symlink_to(ROOT / "node_modules")
        pip = root / ".local" / "pip"
        pip.mkdir(parents=True)
        (pip / "__init__.py").touch()
        (pip / "__main__.py").write_text(PIP, encoding="utf-8")
        return cls(root)

    def synthesise(self, context: Mapping[str, Any], **variables: str) -> subprocess.Popen[str]:
        paths = (self.root / ".local", self.root, self.root / "lambdas")
        environment = {
            "PATH": os.environ["PATH"],
            "CDK_OUTDIR": str(self.assembly),
            "CDK_CONTEXT_JSON": json.dumps({**context, "environment": "prod"}),
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            **variables,
        }
        return subprocess.Popen(
            [sys.executable, "app.py"],
            cwd=self.root,
            env=environment,
            umask=int(variables.get("UMASK", "022"), 8),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def assembly(self) -> Path:
        return self.root / "cdk.out"

    def shipped(self) -> dict[str, tuple[int, bytes]]:
        """What would be uploaded: mode and content, by path."""
        return {
            str(path.relative_to(self.assembly)): (path.stat().st_mode, path.read_bytes())
            for asset in self.assembly.glob("asset.*")
            for path in asset.rglob("*")
            if path.is_file()
        }


@pytest.fixture(scope="module")
def checkouts(context: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkout, Checkout]:
    """Synthesised as differently as two machines may be."""
    mine = Checkout.make(tmp_path_factory.mktemp("mine") / "winnow")
    yours = Checkout.make(tmp_path_factory.mktemp("yours") / "work" / "of yours" / "pipelines")
    (yours.root / "lambdas" / "winnow" / "__pycache__").mkdir()
    (yours.root / "lambdas" / "winnow" / "__pycache__" / "x.cpython-311.pyc").write_bytes(b"another Python's")
    (yours.root / "lambdas" / ".DS_Store").write_bytes(b"a desktop's")
    home = tmp_path_factory.mktemp("home")
    runs = [
        mine.synthesise(context, UMASK="022", PYTHONHASHSEED="1", LANG="C.UTF-8", TZ="UTC"),
        yours.synthesise(context, UMASK="077", PYTHONHASHSEED="2", LANG="C", TZ="Asia/Tokyo", HOME=str(home)),
    ]
    for run in runs:
        _, errors = run.communicate(timeout=PATIENCE_SECONDS)
        assert run.returncode == 0, errors
    return mine, yours


def test_two_checkouts_synthesise_the_same_templates_and_asset_hashes(
    checkouts: tuple[Checkout, Checkout],
) -> None:
    names = [sorted(path.name for path in each.assembly.iterdir()) for each in checkouts]
    assert names[0] == names[1], "each asset's name holds its hash"
    for name in names[0]:
        texts = [each.assembly / name for each in checkouts]
        if texts[0].is_file():
            assert texts[0].read_bytes() == texts[1].read_bytes(), name
    assert len([name for name in names[0] if name.startswith("asset.")]) >= 2


def test_two_checkouts_ship_the_same_bytes_and_modes(checkouts: tuple[Checkout, Checkout]) -> None:
    mine, yours = (each.shipped() for each in checkouts)

    assert mine.keys() == yours.keys()
    assert [name for name, content in mine.items() if yours[name] != content] == []
    assert any(name.endswith("winnow/core/__pycache__/keys.cpython-314.pyc") for name in mine)
    assert not any("/bin/" in name or name.endswith(("RECORD", "INSTALLER")) for name in mine)
    assert {oct(mode & 0o777) for mode, _ in mine.values()} == {"0o644"}
