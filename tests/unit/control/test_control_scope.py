"""The hash is the call: whatever differs, differs in it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sonia.control import Plan
from sonia.control.scope import canonical, digest, scope_hash
from sonia.errors import InvalidRequest

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
objects = st.dictionaries(texts, json_values, max_size=4)
hashes = st.dictionaries(texts, st.text("0123456789abcdef", min_size=1, max_size=8), max_size=3)
plans = st.builds(
    Plan,
    tool=texts,
    arguments=objects,
    tier=st.just(2),
    working_directory=texts,
    tool_digest=texts,
    preview=st.just("p"),
    digests=hashes,
)
FIELDS = {
    "tool": texts,
    "arguments": objects,
    "working_directory": texts,
    "tool_digest": texts,
    "digests": hashes,
}


@settings(max_examples=300, deadline=None)
@given(plan=plans, field=st.sampled_from(sorted(FIELDS)), data=st.data())
def test_t06_any_one_changed_field_is_another_scope(
    plan: Plan, field: str, data: st.DataObject
) -> None:
    other = data.draw(FIELDS[field])
    assume(repr(other) != repr(getattr(plan, field)))
    assume(json.dumps(other, sort_keys=True) != json.dumps(getattr(plan, field), sort_keys=True))

    changed = msgspec.structs.replace(plan, **{field: other})

    assert scope_hash(changed, 1) != scope_hash(plan, 1)


@given(plan=plans, version=st.integers(2, 9))
def test_t06_another_policy_is_another_scope(plan: Plan, version: int) -> None:
    assert scope_hash(plan, version) != scope_hash(plan, 1)


@given(value=objects)
def test_the_order_of_keys_is_no_difference(value: dict[str, Any]) -> None:
    assert digest(dict(reversed(value.items()))) == digest(value)


@given(value=json_values)
def test_a_value_that_was_stored_and_read_has_the_same_scope(value: Any) -> None:
    assert digest(msgspec.json.decode(canonical(value))) == digest(value)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (0.0, -0.0),
        (1, 1.0),
        (1, True),
        (0, False),
        (0, None),
        ("1", 1),
        ("", None),
        ("\u00e9", "e\u0301"),
        ("K", "\u212a"),
        ("a", "a\u200b"),
        ("a", "a "),
        (["a", "b"], ["b", "a"]),
        (["a", "b"], ["ab"]),
        ({}, []),
        ({"a": None}, {}),
        (2**53, 2**53 + 1),
        (2**64, float(2**64)),
        (0.1 + 0.2, 0.3),
    ],
)
def test_t06_values_that_are_nearly_the_same_are_not(one: object, other: object) -> None:
    assert digest({"x": one}) != digest({"x": other})


@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, -math.inf, "\ud800", b"x", {1: "x"}, {"x"}, object],
    ids=repr,
)
def test_what_json_cannot_say_exactly_is_refused(value: object) -> None:
    with pytest.raises(InvalidRequest):
        canonical({"x": [value]})


def test_nesting_without_end_is_refused() -> None:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]

    with pytest.raises(InvalidRequest, match="deeply"):
        canonical(value)


def test_who_asks_and_what_it_looks_like_are_not_part_of_the_scope(
    make_plan: Callable[..., Plan],
) -> None:
    plain = make_plan()

    other = make_plan(origins=("web",), session_id="ses_1", preview="other words", tier=3)

    assert scope_hash(other, 1) == scope_hash(plain, 1)
