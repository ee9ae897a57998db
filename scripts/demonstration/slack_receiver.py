"""Stands in for Slack on this machine: takes what is posted to its webhook, and shows it readably."""

import json
import queue
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.emoji import Emoji
from rich.panel import Panel
from rich.text import Text

Message = dict[str, Any]
POLL_SECONDS = 0.05
"""How long it takes to notice that it is to stop."""


class SlackReceiver:
    """A webhook on loopback that keeps what it is sent."""

    def __init__(self) -> None:
        self._messages: queue.Queue[Message] = queue.Queue()
        messages = self._messages

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                messages.put(json.loads(body))
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *_: object) -> None:
                """Say nothing: the console belongs to the demonstration."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        """The webhook's address."""
        return f"http://127.0.0.1:{self._server.server_port}/services/slack"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(POLL_SECONDS,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def receive(self, count: int, *, within_seconds: float) -> list[Message]:
        """Wait for messages, each for so long; those that came."""
        received: list[Message] = []
        while len(received) < count:
            try:
                received.append(self._messages.get(timeout=within_seconds))
            except queue.Empty:
                break
        return received


def render(message: Message) -> RenderableType:
    """A Block Kit message as Slack would lay it out, roughly."""
    blocks = message.get("blocks") or [{"type": "section", "text": {"text": message.get("text", "")}}]
    return Panel(
        Group(*_spaced(blocks)), title="Slack", title_align="left", border_style="magenta", padding=(0, 1)
    )


def _spaced(blocks: list[dict[str, Any]]) -> Iterator[RenderableType]:
    for number, block in enumerate(blocks):
        if number:
            yield ""
        yield _block(block)


def _block(block: dict[str, Any]) -> RenderableType:
    match block:
        case {"type": "header", "text": {"text": str(text)}}:
            return Text(_signs(text), style="bold")
        case {"type": "section", "fields": list(fields)}:
            return Columns([_markdown(field["text"]) for field in fields], padding=(0, 4))
        case {"type": "section", "text": {"text": str(text)}}:
            return _markdown(text)
        case {"type": "context", "elements": list(elements)}:
            return Text("\n").join([_markdown(element["text"], "dim") for element in elements])
        case {"type": "actions", "elements": list(elements)}:
            return Text("   ").join(
                [Text(f"[{each['text']['text']}]", style="link " + each["url"]) for each in elements]
            )
    return Text(json.dumps(block))


_MARKUP = re.compile(r"```(?P<block>.*?)```|`(?P<code>[^`]+)`|\*(?P<bold>[^*\n]+)\*", re.DOTALL)


def _markdown(text: str, style: str = "") -> Text:
    """Slack's markup with its three escapes undone: bold, code and blocks of code are all that alerts use."""
    shown = Text(style=style)
    position = 0
    for found in _MARKUP.finditer(text):
        shown.append(_plain(text[position : found.start()]))
        position = found.end()
        if found["block"] is not None:
            shown.append("\n" + _plain(found["block"]) + "\n", style="cyan")
        elif found["code"] is not None:
            shown.append(_plain(found["code"]), style="cyan")
        else:
            shown.append(_plain(found["bold"]), style="bold")
    shown.append(_plain(text[position:]))
    shown.rstrip()
    return shown


def _plain(text: str) -> str:
    return _signs(text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))


def _signs(text: str) -> str:
    # Slack's circles are called large_orange_circle and so on, Unicode's just orange_circle.
    return Emoji.replace(re.sub(r":large_(\w+_circle):", r":\1:", text))
