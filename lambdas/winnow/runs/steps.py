"""The steps of closing a run, each on its own: one that fails is logged and counted, and the next one is taken (law 6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, TypeVar

from winnow.metrics.watch import Metric, get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from winnow.metrics.watch import Watch

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ClosingStep:
    """A step, and the metric that counts its failures."""

    name: str
    """What it does, as a verb, for the log and the error."""

    METRIC: ClassVar[Metric] = Metric.WATCHING_FAILED


@dataclass(frozen=True, slots=True)
class AlertStep(ClosingStep):
    """A step without which an alert may not be sent."""

    METRIC: ClassVar[Metric] = Metric.ALERT_FAILED


class Steps:
    """Takes steps, and remembers which of them failed."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self.failures: list[str] = []
        """Steps that failed, and why."""

    def take(self, step: ClosingStep, action: Callable[[], T]) -> T | None:
        """The result of the action; None if it failed."""
        try:
            return action()
        except Exception as error:  # noqa: BLE001  law 6
            get_logger().exception(f"closing the run: could not {step.name}", error=str(error))
            self._watch.count(step.METRIC)
            self.failures.append(f"{step.name}: {error}")
            return None
