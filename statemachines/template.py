"""Fills the placeholders of a state machine that is kept as a file."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PLACEHOLDER = re.compile(r"\$\{([A-Za-z][A-Za-z0-9]*)\}")
"""`${StageName}`: the spelling that Workflow Studio and CloudFormation know too."""


class TemplateError(ValueError):
    """A template and the values for it do not fit together."""


def placeholders(template: object) -> frozenset[str]:
    """Names of all placeholders in a parsed template."""
    return frozenset(name for text in _strings(template) for name in PLACEHOLDER.findall(text))


def fill(template: object, values: Mapping[str, object]) -> Any:
    """A copy of a parsed template in which every placeholder is replaced.

    A string that is nothing but a placeholder becomes the value with its type: `"${TimeoutSeconds}"` becomes
    a number. Within a longer string the value must be a string. Values are not searched for placeholders.

    Raises:
        TemplateError: a placeholder has no value, a value has no placeholder, or a value other than a string
            is part of a longer string.
    """
    wanted = placeholders(template)
    if missing := sorted(wanted - values.keys()):
        raise TemplateError(
            f"${{{missing[0]}}} has no value: pass one for each of {', '.join(sorted(wanted))}"
        )
    if unknown := sorted(values.keys() - wanted):
        raise TemplateError(f"${{{unknown[0]}}} is not in the template: it has {', '.join(sorted(wanted))}")
    return _fill(template, values)


def load(text: str, values: Mapping[str, object]) -> Any:
    """Parse a template and fill it; see `fill`."""
    return fill(json.loads(text), values)


def _fill(node: object, values: Mapping[str, object]) -> object:
    if isinstance(node, dict):
        return {key: _fill(value, values) for key, value in node.items()}
    if isinstance(node, list):
        return [_fill(item, values) for item in node]
    if not isinstance(node, str):
        return node
    if whole := PLACEHOLDER.fullmatch(node):
        return values[whole[1]]
    return PLACEHOLDER.sub(lambda match: _text(match[1], values[match[1]]), node)


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise TemplateError(
            f"${{{name}}} is part of a longer string, so its value must be one, got: {value!r}"
        )
    return value


def _strings(node: object) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict):
        for key, value in node.items():
            yield from _strings(key)
            yield from _strings(value)
    elif isinstance(node, list):
        for item in node:
            yield from _strings(item)
