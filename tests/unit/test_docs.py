"""What people read first: its links lead somewhere, and its example works as it is printed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "tests" / "data" / "README.md"])
LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)[^)]*\)")
NAMED_BLOCK = re.compile(r"`(?P<path>[\w/]+\.py)`[^\n]*\n\n```python\n(?P<code>.*?)```", re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = LINK.findall(page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_page_is_linked_from_another() -> None:
    linked = {
        (page.parent / link).resolve() for page in PAGES for link in LINK.findall(page.read_text("utf-8"))
    }
    pages = {page for page in PAGES if (ROOT / "docs") in page.parents}
    assert pages - linked == set()


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200


def test_the_example_of_the_readme_works_as_it_is_printed(tmp_path: Path) -> None:
    blocks = {
        found["path"]: found["code"]
        for found in NAMED_BLOCK.finditer((ROOT / "README.md").read_text(encoding="utf-8"))
    }
    assert set(blocks) == {"lambdas/books/workers.py", "tests/unit/test_books.py", "stacks/books_stack.py"}
    for path, code in blocks.items():
        file = tmp_path / path.removeprefix("lambdas/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(code, encoding="utf-8")
    (tmp_path / "books" / "__init__.py").touch()
    (tmp_path / "pytest.ini").touch()
    (tmp_path / "stacks" / "books_stack.py").rename(tmp_path / "books_stack.py")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "tests/unit/test_books.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    imported = subprocess.run(
        [sys.executable, "-c", "import books_stack"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert imported.returncode == 0, imported.stderr
