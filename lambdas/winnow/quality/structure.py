"""The shape of ndjson parts, which keep no schema: what DuckDB finds in each, put together, so that all are read alike."""

from __future__ import annotations

from typing import Any

from winnow.quality.columns import MIXED, quoted

Structure = Any
"""As `json_group_structure` gives it: a type's name, a list with the structure of its items, or an object by field."""

NOTHING = "NULL"
INTEGERS = frozenset({"UBIGINT", "BIGINT", "HUGEINT", "UHUGEINT"})


def merged(one: Structure, other: Structure) -> Structure:
    """The structure of what has one of two structures."""
    if one == NOTHING:
        return other
    if other in (one, NOTHING):
        return one
    if isinstance(one, dict) and isinstance(other, dict):
        return {name: merged(one.get(name, NOTHING), other.get(name, NOTHING)) for name in {**one, **other}}
    if isinstance(one, list) and isinstance(other, list):
        return [merged(one[0], other[0])]
    if isinstance(one, str) and isinstance(other, str):
        both = {one, other}
        if both <= INTEGERS:
            return "HUGEINT"
        if both <= INTEGERS | {"DOUBLE"}:
            return "DOUBLE"
    return MIXED


def sql_type(structure: Structure) -> str:
    """The structure as a type of DuckDB. What is never set is read as JSON."""
    if isinstance(structure, dict):
        if "" in structure or len({name.lower() for name in structure}) < len(structure):
            return MIXED  # DuckDB's objects have no field without a name, nor two that differ only in case
        return (
            f"STRUCT({', '.join(f'{quoted(name)} {sql_type(inner)}' for name, inner in structure.items())})"
        )
    if isinstance(structure, list):
        return f"{sql_type(structure[0])}[]"
    return MIXED if structure == NOTHING else str(structure)


def is_never_set(structure: Structure, path: tuple[str, ...]) -> bool:
    """Whether a field is null in every row."""
    for name in path:
        if not isinstance(structure, dict):
            return False
        structure = structure.get(name, NOTHING)
    return bool(structure == NOTHING)
