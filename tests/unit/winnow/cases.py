"""Small inputs that failed once. They lie beside the repository and are no part of it."""

from __future__ import annotations

from pathlib import Path

import pytest

CASES = Path(__file__).parents[4] / "shared" / "cases"

needs_cases = pytest.mark.skipif(
    not CASES.is_dir(), reason=f"the inputs in {CASES} are not part of the repository"
)
