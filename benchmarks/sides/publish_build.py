"""BuildVersion and Publish, as their Lambdas do it, on disk."""

from __future__ import annotations

import json
import time
from pathlib import Path

from benchmarks.disk import DiskStore
from benchmarks.sides.common import peak_mb
from winnow.publish.build import VersionBuilder
from winnow.publish.documents import Format, Mode
from winnow.publish.published_set import PublishedSet
from winnow.publish.publisher import Publisher
from winnow.storage.ledger import Ledger


def main(arguments: list[str]) -> None:
    """Arguments: folder, format, run id."""
    folder, form, run_id = Path(arguments[0]), Format(arguments[1]), arguments[2]
    published = PublishedSet(DiskStore(folder, f"published-{form}"), "works")
    builder = VersionBuilder(
        ledger=Ledger(DiskStore(folder, "ledger")), published=published, mode=Mode.MERGE, form=form
    )
    since, cpu = time.perf_counter(), time.process_time()
    built = builder.build(run_id)
    seconds, cpu_seconds = time.perf_counter() - since, time.process_time() - cpu
    Publisher(published, who="bench").publish(built.version)
    manifest = published.need_manifest(built.version)
    print(
        json.dumps(
            {
                "seconds": seconds,
                "cpu_seconds": cpu_seconds,
                "peak_mb": peak_mb(),
                "rows": built.rows,
                "files": len(manifest.files),
                "bytes": sum(file.bytes for file in manifest.files),
                "counts": manifest.counts.to_json(),
            }
        )
    )
