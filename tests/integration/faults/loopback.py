"""The outside world of the fault tests, on loopback: a dependency, a Slack, and a way to S3 and SNS that can refuse."""

from __future__ import annotations

import http.client
import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain, repeat
from typing import Any, Self
from urllib.parse import unquote, urlsplit

CLOSED_WITHIN_SECONDS = 10.0


class Loopback:
    """An HTTP server on a free port of this machine, for as long as it is a context."""

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Quiet(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body are two writes: without this the second waits for the first's acknowledgement, 40 ms.
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        pass

    def read(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@dataclass(frozen=True, slots=True)
class Call:
    """A worker's call for one record."""

    record_id: str
    nth: int
    """Of the calls for this record, from 1."""
    nth_process: int
    """Of the processes that have called so far, from 1: which life of the worker this is."""


Policy = Callable[[Call], "int | Gate"]
"""The status that a call is answered with; or a gate, to have it wait until that opens and then answer with 200."""


class Gate:
    """Keeps every caller waiting until it is opened."""

    def __init__(self) -> None:
        self._reached = threading.Event()
        self._open = threading.Event()

    def is_reached(self) -> bool:
        return self._reached.is_set()

    def open(self) -> None:
        self._open.set()

    def wait(self) -> None:
        self._reached.set()
        self._open.wait()


class Dependency(Loopback):
    """What workers depend on. Each run has an address of its own there, and a policy for it."""

    def __init__(self) -> None:
        self._policies: dict[str, Policy] = {}
        self._calls: dict[str, Counter[str]] = {}
        self._processes: dict[str, list[str]] = {}
        self._gates: list[Gate] = []
        self._lock = threading.Lock()
        dependency = self

        class Handler(_Quiet):
            def do_GET(self) -> None:
                name, record_id = map(unquote, self.path.lstrip("/").split("/", 1))
                verdict = dependency._decide(name, record_id, self.headers["X-Process"])
                if isinstance(verdict, Gate):
                    verdict.wait()
                    verdict = 200
                try:
                    self.answer(verdict, b"{}")
                except OSError:  # the caller was killed meanwhile
                    self.close_connection = True

        super().__init__(Handler)

    def __exit__(self, *error: object) -> None:
        for gate in self._gates:
            gate.open()
        super().__exit__(*error)

    def when(self, name: str, policy: Policy) -> str:
        """Set the policy of an address; returns the address."""
        self._policies[name] = policy
        self._calls[name] = Counter()
        self._processes[name] = []
        return f"{self.url}/{name}"

    def gate(self) -> Gate:
        """A gate that opens at the latest when the tests are over."""
        gate = Gate()
        self._gates.append(gate)
        return gate

    def calls(self, name: str) -> Counter[str]:
        """How often each record was asked for."""
        with self._lock:
            return Counter(self._calls[name])

    def _decide(self, name: str, record_id: str, process: str) -> int | Gate:
        with self._lock:
            self._calls[name][record_id] += 1
            seen = self._processes[name]
            if process not in seen:
                seen.append(process)
            call = Call(record_id, self._calls[name][record_id], seen.index(process) + 1)
        return self._policies[name](call)


class Webhook(Loopback):
    """Slack's end: takes what is posted, except what mentions a run that it is down for."""

    def __init__(self) -> None:
        self._messages: list[dict[str, Any]] = []
        self._down_for: set[str] = set()
        self.refused = 0
        webhook = self

        class Handler(_Quiet):
            def do_POST(self) -> None:
                body = self.read()
                if any(run_id.encode() in body for run_id in webhook._down_for):
                    webhook.refused += 1
                    self.answer(404, b"no_service")
                    return
                webhook._messages.append(json.loads(body))
                self.answer(200, b"ok")

        super().__init__(Handler)

    def go_down_for(self, run_id: str) -> None:
        self._down_for.add(run_id)

    def come_back_for(self, run_id: str) -> None:
        self._down_for.discard(run_id)

    def about(self, run_id: str) -> list[dict[str, Any]]:
        """The messages that mention a run."""
        mention = re.compile(rf"(?<![\w-]){re.escape(run_id)}(?![\w-])")
        return [message for message in self._messages if mention.search(json.dumps(message))]


@dataclass(frozen=True, slots=True)
class Request:
    """A request on its way to AWS."""

    method: str
    target: str
    """Path and query, unquoted."""
    body: bytes


@dataclass(slots=True)
class Refusal:
    """What is refused, and with which statuses in turn; None lets a request through."""

    matches: Callable[[Request], bool]
    statuses: Iterator[int | None]
    refused: int = 0


REFUSALS = {
    403: ("AccessDenied", "Access Denied"),
    500: ("InternalError", "We encountered an internal error. Please try again."),
    503: ("SlowDown", "Please reduce your request rate."),
}


class Proxy(Loopback):
    """Stands between some functions and AWS, and refuses or keeps waiting what a test wants refused or kept waiting."""

    def __init__(self) -> None:
        self._refusals: list[Refusal] = []
        self._holds: list[tuple[Callable[[Request], bool], Gate]] = []
        self._lock = threading.Lock()
        self.upstream = ""
        """The emulator's address."""
        proxy = self

        class Handler(_Quiet):
            def do_GET(self) -> None:
                body = self.read()
                request = Request(self.command, unquote(self.path), body)
                for matches, gate in list(proxy._holds):
                    if matches(request):
                        gate.wait()
                status = proxy._status_for(request)
                if status is None:
                    # The caller may have given up meanwhile, or been killed.
                    with suppress(BrokenPipeError, ConnectionResetError):
                        proxy._pass_on(self, body)
                    return
                code, message = REFUSALS[status]
                error = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
                self.answer(
                    status,
                    f"<ErrorResponse>{error}</ErrorResponse>".encode()
                    if self.path == "/"
                    else error.encode(),
                )

            do_PUT = do_POST = do_HEAD = do_DELETE = do_GET  # noqa: N815  the server looks for these

        super().__init__(Handler)

    def __exit__(self, *error: object) -> None:
        for _, gate in self._holds:
            gate.open()
        super().__exit__(*error)

    def hold(self, matches: Callable[[Request], bool]) -> Gate:
        """Keep matching requests waiting until the gate is opened; then let them through."""
        gate = Gate()
        self._holds.append((matches, gate))
        return gate

    def refuse(
        self, matches: Callable[[Request], bool], *statuses: int | None, for_good: bool = False
    ) -> Refusal:
        """Answer matching requests with these statuses in turn, then let them through, or repeat the last for good."""
        refusal = Refusal(matches, chain(statuses, repeat(statuses[-1] if for_good else None)))
        with self._lock:
            self._refusals.append(refusal)
        return refusal

    def _status_for(self, request: Request) -> int | None:
        with self._lock:
            for refusal in self._refusals:
                if refusal.matches(request) and (status := next(refusal.statuses)):
                    refusal.refused += 1
                    return status
        return None

    def _pass_on(self, handler: _Quiet, body: bytes) -> None:
        upstream = urlsplit(self.upstream)
        connection = http.client.HTTPConnection(upstream.hostname or "", upstream.port, timeout=60)
        headers = {name: value for name, value in handler.headers.items() if name.lower() not in HOP_BY_HOP}
        try:
            connection.request(handler.command, handler.path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
            handler.send_response_only(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in HOP_BY_HOP | {"content-length"}:
                    handler.send_header(name, value)
            length = answer.getheader("Content-Length") if handler.command == "HEAD" else str(len(content))
            handler.send_header("Content-Length", length or "0")
            handler.end_headers()
            handler.wfile.write(content)
        finally:
            connection.close()


HOP_BY_HOP = {"connection", "expect", "keep-alive", "transfer-encoding", "upgrade"}


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """All of it."""

    dependency: Dependency = field(default_factory=Dependency)
    slack: Webhook = field(default_factory=Webhook)
    proxy: Proxy = field(default_factory=Proxy)

    def servers(self) -> Sequence[Loopback]:
        return (self.dependency, self.slack, self.proxy)
