"""The decorator that makes a user's function a worker."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn, overload

from winnow.core.errors import WinnowError
from winnow.core.record import Retry
from winnow.journal.reports import words_of
from winnow.runtime.options import Options
from winnow.runtime.process_state import ProcessState
from winnow.storage.formats import NDJSON, OutputFormat


class Worker:
    """A user's function with its options. Called with a record it is the function; called with an event and a context it is the Lambda handler."""

    def __init__(self, function: Callable[[Any], Any], options: Options) -> None:
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise ValueError(
                f"a worker's function must not be async, got: {function!r}; use `concurrency` for waiting"
            )
        self.function = function
        self.options = options
        self.name = f"{function.__module__}:{function.__qualname__}"
        """A careful child finds the worker by it: `module:attribute`."""
        self.__doc__ = function.__doc__
        self.__name__ = function.__name__
        self.__module__ = function.__module__
        self.__wrapped__ = function
        self.process = ProcessState(options.setup)

    @overload
    def __call__(self, record: Any, /) -> Any: ...

    @overload
    def __call__(self, event: Any, context: Any, /) -> dict[str, Any]: ...

    def __call__(self, argument: Any, context: Any = None, /) -> Any:
        if context is None:
            return self.function(argument)
        return self._handle(argument, context)

    def _handle(self, event: Any, context: Any) -> dict[str, Any]:
        """The Lambda handler."""
        from winnow.metrics.watch import watched  # noqa: PLC0415
        from winnow.runtime.attempt import run_attempt  # noqa: PLC0415
        from winnow.settings import Settings  # noqa: PLC0415
        from winnow.storage.ledger import Ledger  # noqa: PLC0415  a unit test of the function needs none of this

        settings = Settings.from_env()
        try:
            with watched(settings, context=context) as watch:
                report = run_attempt(
                    self,
                    event,
                    context,
                    ledger=Ledger.of_bucket(settings.need("ledger_bucket")),
                    watch=watch,
                    code_version=settings.code_version,
                )
            if self.process.leaving:
                _leave(self.process.leaving)
        except Exception as error:  # noqa: BLE001  raised again, shortened
            raise _in_short(error) from None
        return report

    def __repr__(self) -> str:
        return f"<worker {self.name}>"


def _leave(why: str) -> NoReturn:
    """End the process, so that Lambda starts a new one. The journal is written, and settling goes by that."""
    from winnow.metrics.watch import get_logger  # noqa: PLC0415

    get_logger().warning(f"the next try begins in a new process: {why}")
    sys.stdout.flush()
    os._exit(1)


def _in_short(error: Exception) -> WinnowError:
    """An error of the same name, with a message and a traceback that fit into a state machine's state (law 7).

    Lambda passes on up to 32 KB of both, and a Catch takes them as they are. The log has them complete.
    """
    short: type[WinnowError] = type(type(error).__name__, (WinnowError,), {})
    return short(words_of(error))


@overload
def worker(function: Callable[[Any], Any], /) -> Worker: ...


@overload
def worker(
    *,
    concurrency: int = 1,
    batch: int | None = None,
    retry: Retry | None = None,
    record_timeout: float | None = None,
    setup: Callable[[], object] | None = None,
    outputs: OutputFormat = NDJSON,
    give_up_after: int = 100,
    flush_seconds: float = 5.0,
) -> Callable[[Callable[[Any], Any]], Worker]: ...


def worker(
    function: Callable[[Any], Any] | None = None, /, **options: Any
) -> Worker | Callable[[Callable[[Any], Any]], Worker]:
    """Make a function of one record (with `batch`: of a list of records) a worker.

    The options are those of `winnow.runtime.options.Options`.

    Raises:
        ValueError: an option has an invalid value.
    """
    chosen = Options(**options)
    if function is not None:
        return Worker(function, chosen)
    return lambda function: Worker(function, chosen)
