"""What a deployed function's surroundings are like, found out by trying."""

from __future__ import annotations

import importlib
import platform
from typing import Any

from botocore.exceptions import ClientError

from winnow.core.keys import StageKeys
from winnow.core.probe import STAGE
from winnow.probing import start


def facts(run_id: str, *, bucket: str, s3: Any) -> dict[str, Any]:
    """What this function finds. Writes one small object.

    Args:
        run_id: the probe's.
        bucket: the ledger's.
        s3: client.
    """
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "packages": {
            name: _version(name) for name in ("botocore", "boto3", "aws_lambda_powertools", "pyarrow")
        },
        "zstd": _zstd(),
        "start_seconds": start.SECONDS,
        "conditions": _conditions(s3, bucket, StageKeys(run_id, STAGE).scratch),
    }


def _version(package: str) -> str | None:
    try:
        return str(importlib.import_module(package).__version__)
    except ImportError:
        return None
    except AttributeError:
        return "installed"


def _zstd() -> str:
    """The module that packs and unpacks zstd here; what went wrong, where none does."""
    errors = []
    for name in ("compression.zstd", "backports.zstd"):
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            errors.append(str(error))
        else:
            body = b"winnow " * 100
            return (
                name if module.decompress(module.compress(body)) == body else f"{name} changes what it packs"
            )
    return "; ".join(errors)


def _conditions(s3: Any, bucket: str, key: str) -> dict[str, str]:
    """The answers to conditional writes, by what was tried: an HTTP status, and the error's code."""
    where = {"Bucket": bucket, "Key": key}
    first = _answer(lambda: s3.put_object(**where, Body=b"1", IfNoneMatch="*"))
    again = _answer(lambda: s3.put_object(**where, Body=b"2", IfNoneMatch="*"))
    wrong = _answer(lambda: s3.put_object(**where, Body=b"3", IfMatch='"00000000000000000000000000000000"'))
    etag = s3.get_object(**where)["ETag"]
    right = _answer(lambda: s3.put_object(**where, Body=b"4", IfMatch=etag))
    left = s3.get_object(**where)["Body"].read().decode()
    return {
        "if absent": first,
        "if absent, again": again,
        "if unchanged, changed": wrong,
        "if unchanged": right,
        "left": left,
    }


def _answer(call: Any) -> str:
    try:
        return str(call()["ResponseMetadata"]["HTTPStatusCode"])
    except ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return f"{status} {error.response.get('Error', {}).get('Code')}"
