"""Logs, metrics and traces of our own Lambdas. Watching never breaks what it watches (law 6)."""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.logging import Logger
from aws_lambda_powertools.metrics.provider.cloudwatch_emf.cloudwatch import AmazonCloudWatchEMFProvider

from winnow.core.errors import WinnowError
from winnow.core.probe import is_probe
from winnow.metrics.metric import Metric

if TYPE_CHECKING:
    from collections.abc import Iterator

    from winnow.settings import Settings

__all__ = ["NAMESPACE", "Metric", "Watch", "get_logger", "watched"]

NAMESPACE = "Winnow"
"""CloudWatch namespace of every metric; dashboards and alarms import it from here."""


class _Stdout:
    """Standard output as it is when something is written, not as it was when the logger was made."""

    def write(self, text: str) -> int:
        return sys.stdout.write(text)

    def flush(self) -> None:
        sys.stdout.flush()


@cache
def get_logger() -> Logger:
    """The process's logger. Service and level come from Powertools' own variables.

    Give ids as keys: `get_logger().warning("no title", record_id=record.id)`; `watched` adds run_id and stage.
    """
    return Logger(stream=_Stdout(), utc=True, use_rfc3339=True)  # type: ignore[arg-type]


class Watch:
    """Counts of one invocation, emitted once at its end.

    Counting is an addition to a dict, cheap enough for each record; Powertools' `add_metric` alone takes 6 µs.
    """

    def __init__(self, *, environment: str, pipeline: str, stage: str = "", run_id: str = "") -> None:
        self._environment = environment
        self._pipeline = pipeline
        self._stage = stage
        self._run_id = run_id
        self._sums: dict[Metric, float] = {}
        self._notes: dict[str, Any] = {}
        self._lock = threading.Lock()

    def identify(self, *, run_id: str, stage: str = "") -> None:
        """Say what the invocation is about as soon as that is known; from then on logs and metrics say it, too."""
        self._run_id, self._stage = run_id, stage or self._stage
        with suppress(Exception):
            get_logger().append_keys(run_id=self._run_id, **({"stage": self._stage} if self._stage else {}))

    def count(self, metric: Metric, value: float = 1) -> None:
        with self._lock:
            self._sums[metric] = self._sums.get(metric, 0) + value

    def note(self, **notes: Any) -> None:
        """Put ids and the like beside the counts: in the log's line of them, and in no metric."""
        self._notes.update(notes)

    def flush(self) -> None:
        """Print what was counted so far as one EMF line; nothing if nothing was. Never raises.

        Its dimensions are environment, pipeline and, where it is known, stage. There is one set of them, as CloudWatch bills
        each set of each metric: what a pipeline did in all is the sum over its stages.

        Of a probe nothing is printed: it is not the pipeline's work, and its failures are made on purpose.
        """
        with self._lock:
            sums, self._sums = self._sums, {}
        if not sums or is_probe(self._run_id):
            return
        try:
            # An empty service keeps Powertools from adding a dimension of its own.
            emf = AmazonCloudWatchEMFProvider(namespace=NAMESPACE, service="")
            emf.add_dimension("environment", self._environment)
            emf.add_dimension("pipeline", self._pipeline)
            if self._stage:
                emf.add_dimension("stage", self._stage)
            if self._run_id:
                emf.add_metadata("run_id", self._run_id)
            for key, value in self._notes.items():
                emf.add_metadata(key, value)
            for metric, value in sums.items():
                emf.add_metric(name=metric, unit=metric.unit, value=value)
            emf.flush_metrics()
        except Exception as error:  # noqa: BLE001  law 6
            with suppress(Exception):
                get_logger().warning("metrics were not emitted", error=str(error), metrics=dict(sums))


@contextmanager
def watched(
    settings: Settings, *, stage: str = "", run_id: str = "", context: object = None
) -> Iterator[Watch]:
    """Around one invocation: ids as log keys, an error as one structured line, metrics flushed once, a trace if asked for.

    An error passes through unchanged.
    """
    logger = get_logger()
    watch = Watch(environment=settings.environment, pipeline=settings.pipeline, stage=stage or settings.stage)
    with suppress(Exception):
        logger.append_keys(pipeline=settings.pipeline, request_id=getattr(context, "aws_request_id", None))
    if run_id:
        watch.identify(run_id=run_id)
    try:
        with _traced(settings):
            yield watch
    except WinnowError as error:  # our own errors say all in one line; a traceback would only bury it
        logger.error(str(error), error_type=type(error).__name__)  # noqa: TRY400
        raise
    except Exception as error:
        logger.exception("failed", error=str(error))
        raise
    finally:
        watch.flush()
        with suppress(Exception):
            logger.remove_keys(["pipeline", "request_id", "run_id", "stage"])


@contextmanager
def _traced(settings: Settings) -> Iterator[None]:
    """A subsegment around the invocation, where configuration asks for one: the import outweighs all the rest."""
    segment: Any = None
    if settings.trace:
        with suppress(Exception):
            segment = _tracer(settings.pipeline).provider.in_subsegment(name="## winnow")
            segment.__enter__()
    try:
        yield
    except BaseException as error:
        _leave(segment, type(error), error, error.__traceback__)
        raise
    else:
        _leave(segment, None, None, None)


def _leave(segment: Any, *error: object) -> None:
    if segment is not None:
        with suppress(Exception):
            segment.__exit__(*error)


@cache
def _tracer(service: str) -> Any:
    from aws_lambda_powertools.tracing import Tracer  # noqa: PLC0415  300 ms, only where asked for

    return Tracer(service=service, patch_modules=["botocore"])
