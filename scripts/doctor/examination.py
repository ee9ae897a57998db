"""Runs checks. Whatever happens within one is that one's finding."""

import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace

from botocore.exceptions import BotoCoreError, ClientError

from scripts.doctor.check import Check
from scripts.doctor.context import DoctorContext
from scripts.doctor.finding import Finding, FindingStatus, NotExamined

DENIED = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "AuthorizationError",
        "AuthorizationErrorException",
        "KMSAccessDenied",
        "KMSAccessDeniedException",
        "UnauthorizedOperation",
    }
)
UNKNOWN_TO_EMULATORS = frozenset(
    {
        "InvalidAction",
        "NotImplemented",
        "UnknownOperation",
        "UnknownOperationException",
        "UnrecognizedClientException",
        "InternalFailure",
        "404",
        "501",
    }
)
"""Error codes by which an emulator says that it does not have an API."""

MAX_ERROR_CHARS = 300


@dataclass(frozen=True, slots=True)
class Examined:
    """A check, and what it found."""

    check: Check
    finding: Finding


def examine_all(checks: Iterable[Check], context: DoctorContext) -> Iterator[Examined]:
    """Run checks one after the other."""
    for each in checks:
        yield Examined(each, examine(each, context))


def examine_together(checks: Sequence[Check], context: DoctorContext) -> Iterator[Examined]:
    """Run checks at the same time, as most of what they do is wait; yields in their order.

    In threads that end with the process: who presses Ctrl-C does not wait for them. What a check has started ends by itself.
    """
    findings: list[Future[Finding]] = [Future() for _ in checks]

    def run(check: Check, finding: Future[Finding]) -> None:
        finding.set_result(examine(check, context))

    for each, finding in zip(checks, findings, strict=True):
        threading.Thread(target=run, args=(each, finding), name=each.name, daemon=True).start()
    for each, finding in zip(checks, findings, strict=True):
        yield Examined(each, finding.result())


def examine(check: Check, context: DoctorContext) -> Finding:
    """Run a check. Never raises."""
    return aimed(_look(check, context), context)


def aimed(finding: Finding, context: DoctorContext) -> Finding:
    """A finding whose command reaches what was examined: the AWS CLI does not know of the emulator by itself."""
    command = finding.command.removeprefix("aws ")
    if command == finding.command or not context.target.is_local:
        return finding
    return replace(
        finding, command=f"aws --endpoint-url {context.target.client('sts').meta.endpoint_url} {command}"
    )


def _look(check: Check, context: DoctorContext) -> Finding:
    try:
        return check.look(context)
    except NotExamined as reason:
        return Finding.skipped(str(reason))
    except ClientError as error:
        return _of_client_error(error, is_local=context.target.is_local)
    except BotoCoreError as error:
        return Finding.failed(f"AWS: {one_line(error)}")
    except Exception as error:  # noqa: BLE001  one check that cannot be made keeps no other from being made
        return Finding.failed(f"could not be examined: {type(error).__name__}: {one_line(error)}")


def _of_client_error(error: ClientError, *, is_local: bool) -> Finding:
    code, action = error_code(error), error.operation_name
    if is_local and code in UNKNOWN_TO_EMULATORS:
        return Finding.skipped(f"the emulator does not have {action}")
    if code in DENIED:
        return Finding.warning(
            f"not examined: you lack the permission {missing_permission(error)}",
            "Ask for it, or run this as someone who has it.",
        )
    return Finding.failed(f"AWS: {one_line(error)}")


def error_code(error: ClientError) -> str:
    """AWS's code of an error."""
    return str(error.response.get("Error", {}).get("Code", ""))


def missing_permission(error: ClientError) -> str:
    """The permission that a refusal names; the operation's name where it names none."""
    named = re.search(r"not authorized to perform:? ([A-Za-z0-9-]+:\w+)", str(error))
    return named[1] if named else f"to call {error.operation_name}"


def one_line(error: BaseException) -> str:
    """An error's text on one line."""
    text = " ".join(str(error).split())
    return text if len(text) <= MAX_ERROR_CHARS else f"{text[:MAX_ERROR_CHARS]}…"


def has_failed(examined: Iterable[Examined]) -> bool:
    """Whether something is failed; warnings are not."""
    return any(each.finding.status is FindingStatus.FAILED for each in examined)
