"""zstd, wherever this Python has it from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

LEVEL = 3
MAX_UNPACKED_BYTES = 4 * 1024 * 1024
"""Unpacked at once: memory must not depend on how well something was packed."""


def _module() -> Any:
    try:
        from compression import zstd  # type: ignore[import-not-found]  # noqa: PLC0415  Python 3.14, which runs in Lambda
    except ImportError:
        from backports import zstd  # noqa: PLC0415
    return zstd


def compressor() -> Any:
    """Packs with `compress(data)` and `flush()`; the same data becomes the same bytes."""
    return _module().ZstdCompressor(level=LEVEL)


def unpacked(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Unpack a stream of one frame.

    Raises:
        EOFError: it ends too early.
        ValueError: it is damaged.
    """
    zstd = _module()
    unpacker = zstd.ZstdDecompressor()
    try:
        for piece in pieces:
            yield unpacker.decompress(piece, MAX_UNPACKED_BYTES)
            while not unpacker.eof and not unpacker.needs_input:
                yield unpacker.decompress(b"", MAX_UNPACKED_BYTES)
    except zstd.ZstdError as error:
        raise ValueError(f"it cannot be unpacked: {error}") from error
    if not unpacker.eof:
        raise EOFError("it ends too early")


def open_zst(path: Path, mode: str) -> Any:
    """A packed file on disk, to read (`rb`) or to write (`wb`) quickly rather than small."""
    return _module().open(path, mode, **({"level": 1} if mode == "wb" else {}))
