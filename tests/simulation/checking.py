"""Runs seeds, and says of each whether all laws held."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.simulation.oracle import Violation, look
from tests.simulation.schedule import Schedule, draw
from tests.simulation.simulation import Simulation


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A schedule that was run, and what the oracle says."""

    schedule: Schedule
    violations: tuple[Violation, ...]
    events: tuple[str, ...]
    trace: tuple[str, ...]
    reached: Counter[str]


def check(schedule: Schedule) -> Checked:
    """Run a schedule and look at what it left behind."""
    simulation = Simulation(schedule)
    try:
        with simulation.seams():
            simulation.run()
            violations = look(simulation)
    except Exception as error:  # noqa: BLE001  a schedule that cannot be run to its end has failed
        where = traceback.extract_tb(error.__traceback__)[-1]
        violations = [
            Violation("unexpected", f"{type(error).__name__}: {error} ({where.filename}:{where.lineno})")
        ]
    return Checked(
        schedule=schedule,
        violations=tuple(violations),
        events=tuple(simulation.world.events),
        trace=tuple(simulation.world.trace),
        reached=simulation.world.reached,
    )


@dataclass(slots=True)
class Tally:
    """What many seeds did."""

    seeds: int = 0
    failed: list[int] = field(default_factory=list)
    """Seeds in which a law did not hold."""
    reached: Counter[str] = field(default_factory=Counter)
    """Branches of the product."""

    def add(self, other: Tally) -> None:
        self.seeds += other.seeds
        self.failed += other.failed
        self.reached += other.reached


def check_seeds(seeds: Iterable[int]) -> Tally:
    """Check the schedules of some seeds."""
    tally = Tally()
    for seed in seeds:
        checked = check(draw(seed))
        tally.seeds += 1
        tally.reached += checked.reached
        if checked.violations:
            tally.failed.append(seed)
    return tally
