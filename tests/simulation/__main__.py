"""Tells what happens in one seed: `.venv/bin/python -m tests.simulation SEED [--whole]`."""

from __future__ import annotations

import sys

from tests.simulation.checking import check
from tests.simulation.schedule import draw
from tests.simulation.story import shrink, tell


def main() -> int:
    """Run seeds and tell their stories; of one that fails the shrunk one, unless the whole is asked for.

    Returns:
        Exit code: 1 where a law did not hold, 2 where the arguments cannot be used.
    """
    whole = "--whole" in sys.argv[1:]
    named = [each for each in sys.argv[1:] if each != "--whole"]
    wrong = next((each for each in named if not each.isdecimal()), None)
    if wrong is not None or not named:
        print(f"SEED must be a whole number, got: {wrong or 'none'}", file=sys.stderr)
        return 2
    failed = False
    for seed in map(int, named):
        checked = check(draw(seed))
        failed = failed or bool(checked.violations)
        print(tell(shrink(checked) if checked.violations and not whole else checked))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
