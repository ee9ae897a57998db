"""Links into the AWS console, for people who are shown an ARN or a key."""

from __future__ import annotations

from urllib.parse import quote

_HOSTS = {
    "aws": "console.aws.amazon.com",
    "aws-cn": "console.amazonaws.cn",
    "aws-us-gov": "console.amazonaws-us-gov.com",
}


def execution_url(execution_arn: str) -> str | None:
    """The page of a state machine's execution; None when the text is no ARN of one."""
    place = _place(execution_arn)
    if place is None:
        return None
    host, region = place
    return f"https://{region}.{host}/states/home?region={region}#/v2/executions/details/{quote(execution_arn, safe=':')}"


def object_url(execution_arn: str, bucket: str, key: str) -> str | None:
    """The page of an object in S3, in the partition and region of an execution that wrote it."""
    place = _place(execution_arn)
    if place is None:
        return None
    host, region = place
    return f"https://{region}.{host}/s3/object/{quote(bucket)}?region={region}&prefix={quote(key)}"


def _place(arn: str) -> tuple[str, str] | None:
    parts = arn.split(":")
    if len(parts) < 6 or parts[0] != "arn" or parts[1] not in _HOSTS or not parts[3]:
        return None
    return _HOSTS[parts[1]], parts[3]
