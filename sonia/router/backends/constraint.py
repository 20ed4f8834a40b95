"""Answers held to a grammar: what the engine is given, and whether the answer kept to it.

llama.cpp decodes under llguidance grammars, but says nothing when one can't be compiled and
then answers without it. So each grammar is compiled here first, by the same library, which
names what it can't enforce; and every piece of the answer is followed through it, byte by byte.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec

from sonia.errors import InvalidRequest, UpstreamError

LARGEST_SCHEMA_BYTES = 100_000
# No free white space: a small model would go on with it for ever.
_SPACING = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_OURS = "x-guidance"


class Constraint:
    """One answer under `grammar` (Lark with llguidance's extensions)."""

    def __init__(self, grammar: str) -> None:
        self.grammar = grammar
        self._matcher: Any = _matcher(grammar)

    def follow(self, piece: str) -> None:
        """Take the next piece. Raises `UpstreamError` when the engine left the grammar."""
        data = list(piece.encode())
        if self._matcher.try_consume_tokens(data) != len(data):
            raise UpstreamError("The local model did not keep to the schema.")

    @property
    def complete(self) -> bool:
        """Whether what was followed is a whole document."""
        return bool(self._matcher.is_accepting())


def schema_constraint(schema: dict[str, Any]) -> Constraint:
    """Hold the answer to a JSON Schema, of draft 2020-12 or older. Takes milliseconds.

    Raises `InvalidRequest` that names what of it can't be enforced: nothing is ignored.
    """
    if refused := unenforceable(schema):
        raise InvalidRequest(f"The JSON Schema can't be enforced: {refused}.", field="json_schema")
    return Constraint(f"%llguidance {{}}\nstart: {schema_rule(schema)}")


def schema_rule(schema: dict[str, Any], *, lenient: bool = False) -> str:
    """The schema as a term of a Lark rule. `lenient` skips what can't be enforced."""
    return f"%json {_encoded(schema, lenient).decode()}"


def unenforceable(schema: dict[str, Any], *, lenient: bool = False) -> str | None:
    """Why the schema can't be a grammar; None when it can."""
    try:
        encoded = _encoded(schema, lenient)
    except (TypeError, ValueError, RecursionError):
        return "it is not plain JSON, or nested too deeply"
    if len(encoded) > LARGEST_SCHEMA_BYTES:
        return f"it has {len(encoded)} bytes, and {LARGEST_SCHEMA_BYTES} are the most"
    return _checked(encoded)


def load_constraints() -> None:
    """Import what constraints need. Reads a large file: call it off the event loop."""
    _bytes()


def _encoded(schema: dict[str, Any], lenient: bool) -> bytes:
    # A schema of somebody else's must not loosen its own enforcement.
    return msgspec.json.encode({**schema, _OURS: {**_SPACING, "lenient": lenient}})


@lru_cache(maxsize=256)
def _checked(encoded: bytes) -> str | None:
    from llguidance import LLMatcher

    matcher = LLMatcher(_bytes(), LLMatcher.grammar_from_json_schema(encoded.decode()), log_level=0)
    if not matcher.is_error():
        return None
    return " ".join(matcher.get_error().split())[:500].rstrip(".")


def _matcher(grammar: str) -> Any:
    from llguidance import LLMatcher

    matcher = LLMatcher(_bytes(), grammar, log_level=0)
    if matcher.is_error():
        raise InvalidRequest(f"The grammar can't be enforced: {matcher.get_error()[:500]}")
    return matcher


@lru_cache(maxsize=1)
def _bytes() -> Any:
    """A tokenizer of bytes: whatever the model's tokens are, their text is bytes."""
    from llguidance import LLTokenizer

    return LLTokenizer("byte")
