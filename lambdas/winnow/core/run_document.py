"""What a run was asked to do: the ledger's `run.json`, written once, before anything else of the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from winnow.core.contract import Pointer
from winnow.core.document import nullable, required


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDocument:
    """A run as PlanRun wrote it down."""

    run_id: str
    pipeline: str
    stages: tuple[str, ...]
    """All stages of the pipeline, in order."""
    start_at: str
    """The stage that the run begins with."""
    trigger: Mapping[str, Any]
    """Who asked for the run: `kind`, and what else is known of that."""
    replay_id: str | None
    """The replay that the run is, if it is one."""
    execution: str
    """ARN of the pipeline's execution."""
    started_at: str
    """ISO 8601, UTC."""
    records: Pointer
    """The list that the run's first stage is given."""
    stepped_aside: str | None
    """Why the run did nothing; None if it ran."""

    @property
    def is_probe(self) -> bool:
        """Whether nothing but a probe's object started it: it has no record, and says nothing of how the pipeline is doing."""
        return bool(self.trigger.get("probes")) and not self.trigger.get("objects")

    @property
    def stages_to_run(self) -> tuple[str, ...]:
        """The stages that the run goes through, in order."""
        return self.stages[self.stages.index(self.start_at) :]

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Raises `ValueError` or `StageInputError` if a field is missing or wrong."""
        stages = required(value, "stages", list)
        start_at = required(value, "start_at", str)
        if start_at not in stages:
            raise ValueError(f"`start_at` must be one of `stages`, got: {start_at!r}")
        replay = nullable(value, "replay", dict)
        return cls(
            run_id=required(value, "run_id", str),
            pipeline=required(value, "pipeline", str),
            stages=tuple(map(str, stages)),
            start_at=start_at,
            trigger=required(value, "trigger", dict),
            replay_id=required(replay, "id", str) if replay is not None else None,
            execution=required(value, "execution", str),
            started_at=required(value, "started_at", str),
            records=Pointer.from_event(value.get("records"), "records"),
            stepped_aside=nullable(value, "stepped_aside", str),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "run_id": self.run_id,
            "pipeline": self.pipeline,
            "stages": list(self.stages),
            "start_at": self.start_at,
            "trigger": self.trigger,
            "replay": {"id": self.replay_id} if self.replay_id else None,
            "execution": self.execution,
            "started_at": self.started_at,
            "records": self.records.to_payload(),
            "stepped_aside": self.stepped_aside,
        }
