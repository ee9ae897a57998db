"""Another version of a worker's code is the reason to replay its permanent failures, so it changes when, and only when, the worker may."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from aws_cdk import aws_lambda as lambda_

from stacks.constructs.code_version import code_version, shipped_with
from stacks.constructs.lambda_code import SOURCES
from tests.stacks.synthesized import Synthesized

FILES = {
    "shop/__init__.py": "",
    "shop/clean.py": "from shop import prices\nfrom . import words\n",
    "shop/index.py": "import shop.words.long\n\ndef index(record):\n    from .late import load\n    return load(record)\n",
    "shop/prices.py": "import json\n",
    "shop/late.py": "load = None\n",
    "shop/words/__init__.py": "from winnow import worker\n",
    "shop/words/long.py": "from ..prices import *\n",
    "shop/words/list.txt": "a\n",
    "shop/requirements.txt": "lxml\n",
    "other/__init__.py": "",
    "winnow/__init__.py": "",
    "winnow/core/__init__.py": "",
    "winnow/core/errors.py": "",
    "winnow/core/record.py": "",
    "winnow/runtime/__init__.py": "",
    "winnow/runtime/decorator.py": "def handle():\n    from winnow.runtime.attempt import run\n",
    "winnow/runtime/attempt.py": "",
    "winnow/alerts/__init__.py": "",
}
SETTINGS = {"environment": {"TABLE": {"Ref": "Table"}}, "memory_mb": 512, "timeout_seconds": 900}


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return tmp_path


def version(sources: Path, worker: str = "shop.clean.clean", **changes: Any) -> str:
    given: dict[str, Any] = {"requirements": None, "settings": SETTINGS, **changes}
    return code_version(worker, sources=sources, **given)


def names(sources: Path, module: str) -> set[str]:
    return {str(file.relative_to(sources)) for file in shipped_with(module, sources=sources)}


RUNTIME = {name for name in FILES if name.startswith("winnow/")} - {"winnow/alerts/__init__.py"}
WORDS = {
    "shop/__init__.py",
    "shop/requirements.txt",
    "shop/prices.py",
    "shop/words/__init__.py",
    "shop/words/list.txt",
}


def test_a_worker_comes_with_what_it_imports_near_and_far(sources: Path) -> None:
    assert names(sources, "shop.clean") == RUNTIME | WORDS | {"shop/clean.py"}
    assert names(sources, "shop.index") == RUNTIME | WORDS | {
        "shop/index.py",
        "shop/late.py",
        "shop/words/long.py",
    }


@pytest.mark.parametrize("name", sorted(RUNTIME | WORDS | {"shop/clean.py"}))
def test_changes_with_whatever_the_worker_comes_with(name: str, sources: Path) -> None:
    before = version(sources)
    (sources / name).write_text(FILES[name] + "\n# changed\n", encoding="utf-8")
    assert version(sources) != before


@pytest.mark.parametrize(
    "name", ["shop/index.py", "shop/late.py", "other/__init__.py", "winnow/alerts/__init__.py"]
)
def test_does_not_change_with_what_only_others_come_with(name: str, sources: Path) -> None:
    before = version(sources)
    (sources / name).write_text("# changed\n", encoding="utf-8")
    assert version(sources) == before


@pytest.mark.parametrize(
    "changes",
    [
        {"worker": "shop.clean.other"},
        {"requirements": "shop/requirements.txt"},
        {"settings": SETTINGS | {"environment": {"TABLE": {"Ref": "Another"}}}},
        {"settings": SETTINGS | {"memory_mb": 1024}},
        {"settings": SETTINGS | {"timeout_seconds": 60}},
    ],
    ids=["function", "requirements", "environment", "memory", "timeout"],
)
def test_changes_with_what_a_stage_is_given(changes: dict[str, Any], sources: Path) -> None:
    assert version(sources, **changes) != version(sources)


def test_changes_with_code_of_its_own(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("code")
    (folder / "handler.py").write_text("one", encoding="utf-8")
    worker = "elsewhere.handler.handler"
    first = version(sources, worker, code=lambda_.Code.from_asset(str(folder)))
    assert version(sources, worker, code=lambda_.Code.from_asset(str(folder))) == first
    (folder / "handler.py").write_text("two", encoding="utf-8")
    assert version(sources, worker, code=lambda_.Code.from_asset(str(folder))) != first


def test_each_of_the_examples_workers_has_a_version_of_its_own(prod: Synthesized) -> None:
    workers = ("catalogue.adapt.adapt", "catalogue.transform.transform", "catalogue.mint.mint")
    assert len({prod.variables(worker)["WINNOW_CODE_VERSION"] for worker in workers}) == len(workers)
    assert SOURCES / "catalogue" / "transform.py" not in shipped_with("catalogue.mint")
    assert SOURCES / "winnow" / "runtime" / "recorder.py" in shipped_with("catalogue.mint")
