"""Schemas as grammars: what can be enforced, what is refused, and that it was kept to."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest

from sonia.errors import InvalidRequest, UpstreamError
from sonia.router.backends.constraint import schema_constraint

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": "^[A-Z][a-z]+$"},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "kind": {"enum": ["cat", "dog"]},
        "friends": {"type": "array", "items": {"$ref": "#/$defs/friend"}, "maxItems": 2},
        "home": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/friend"}]},
    },
    "required": ["name", "age", "kind", "friends", "home"],
    "additionalProperties": False,
    "$defs": {
        "friend": {
            "type": "object",
            "properties": {"id": {"type": "integer"}},
            "required": ["id"],
            "additionalProperties": False,
        }
    },
}
GOOD: dict[str, Any] = {
    "name": "Ann",
    "age": 7,
    "kind": "cat",
    "friends": [{"id": 1}],
    "home": None,
}


@pytest.mark.parametrize("end", [1, 10, 20, None])
def test_a_document_that_fits_is_followed_to_its_end(end: int | None) -> None:
    constraint = schema_constraint(PERSON)
    whole = json.dumps(GOOD)

    constraint.follow(whole[:end])

    assert constraint.complete == (end is None)


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "ann"},
        {"age": 200},
        {"age": "7"},
        {"kind": "cow"},
        {"friends": [{"id": 1}] * 3},
        {"friends": [{"no": 1}]},
        {"home": 3},
        {"extra": 1},
    ],
)
def test_a_document_that_does_not_fit_is_noticed(wrong: dict[str, Any]) -> None:
    with pytest.raises(UpstreamError):
        schema_constraint(PERSON).follow(json.dumps({**GOOD, **wrong}))


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"not": {"type": "string"}}, "not"),
        ({"if": {"required": ["a"]}, "then": {"required": ["b"]}}, "if"),
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"type": "object", "dependentRequired": {"a": ["b"]}}, "dependentRequired"),
        ({"type": "string", "pattern": "(?=a)b"}, "look-around"),
        ({"type": "string", "format": "made-up"}, "format"),
        ({"$ref": "https://example.com/schema.json"}, "example.com"),
        ({"$ref": "#/$defs/nobody"}, "nobody"),
        ({"type": "nonsense"}, "nonsense"),
        ({"type": "object", "properties": {"a": False}, "required": ["a"]}, "unsatisfiable"),
        ({"not": {}, "x-guidance": {"lenient": True}}, "not"),
        ({"properties": {"a": {"not": {}, "x-guidance": {"lenient": True}}}}, "not"),
    ],
)
def test_what_can_not_be_enforced_is_refused_by_name(schema: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        schema_constraint(schema)


def test_bombs_are_refused_or_bounded() -> None:
    deep: dict[str, Any] = {"type": "string"}
    for _ in range(400):
        deep = {"type": "object", "properties": {"a": deep}}
    wide = {"enum": [f"value {index}" for index in range(50_000)]}
    doubling = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(40)}
    doubling["d40"] = {"type": "string"}  # type: ignore[dict-item]

    with pytest.raises(InvalidRequest, match="recursion"):
        schema_constraint(deep)
    with pytest.raises(InvalidRequest, match="100000"):
        schema_constraint(wide)
    with suppress(InvalidRequest):  # either way it comes back soon
        schema_constraint({"$ref": "#/$defs/d0", "$defs": doubling})
