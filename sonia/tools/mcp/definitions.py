"""What another server says of its tools, made fit to be ours, and never more than said."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import msgspec

from sonia.log import get_logger
from sonia.types import Value

MAX_TOOLS = 128
HELD = "Its definition changed. It can't be used until the owner accepts the new one."
MAX_DESCRIPTION_CHARS = 1_000
MAX_SCHEMA_BYTES = 32_768
_UNFIT = re.compile(r"[^a-z0-9_-]+")
_UNPRINTABLE = re.compile(r"[^\n\x20-\x7e\u00a1-\u1fff\u3000-\ud7ff]")


class Definition(Value):
    """One tool of a server: `name` is ours, `theirs` is what the server calls it."""

    name: str
    theirs: str
    description: str
    schema: dict[str, Any]
    digest: str


def read(server: str, listed: Iterable[Any]) -> tuple[Definition, ...]:
    """What can be used of a server's list; the rest is logged and left out."""
    found: dict[str, Definition] = {}
    for item in list(listed)[:MAX_TOOLS]:
        definition = _definition(server, item)
        if definition is None or definition.name in found:
            get_logger("openclaw").warning("mcp tool left out", server=server, tool=str(item)[:200])
            continue
        found[definition.name] = definition
    return tuple(found.values())


def _definition(server: str, item: Any) -> Definition | None:
    if not isinstance(item, dict):
        return None
    theirs, schema = item.get("name"), item.get("inputSchema")
    if not isinstance(theirs, str) or not 0 < len(theirs) <= 128 or not isinstance(schema, dict):
        return None
    ours = _UNFIT.sub("_", theirs.lower()).strip("_")
    if not ours or schema.get("type", "object") != "object" or not _sound(schema):
        return None
    description = item.get("description")
    said = _UNPRINTABLE.sub("", description if isinstance(description, str) else "")
    if len(msgspec.json.encode(schema)) > MAX_SCHEMA_BYTES:
        return None
    return Definition(
        name=f"mcp.{server}.{ours}",
        theirs=theirs,
        description=said[:MAX_DESCRIPTION_CHARS],
        schema={"type": "object", "properties": {}, **schema},
        digest=_digest(theirs, description, schema),
    )


def held(definition: Definition) -> Definition:
    """The same without a word of the server's: what was not accepted is shown to no model."""
    return msgspec.structs.replace(definition, description=HELD, schema={"type": "object"})


def _sound(schema: dict[str, Any]) -> bool:
    jsonschema, validator, registry = _validator()
    try:
        validator.check_schema(schema)
        validator(schema, registry=registry)
    except (jsonschema.SchemaError, RecursionError, re.error):
        return False
    return True


def _digest(theirs: str, description: Any, schema: dict[str, Any]) -> str:
    """Of all that a model is told. Annotations are not in it: nothing here follows them."""
    told = (theirs, description, schema)
    return hashlib.sha256(msgspec.json.encode(told, order="sorted")).hexdigest()


def wrong(definition: Definition, args: dict[str, Any]) -> str | None:
    """Why the arguments don't fit, or None."""
    _, validator, registry = _validator()
    try:
        found = next(validator(definition.schema, registry=registry).iter_errors(args), None)
    except Exception as error:  # noqa: BLE001  a schema from elsewhere that can't be followed
        return f"its schema can't be followed ({type(error).__name__})"
    if found is None:
        return None
    at = ".".join(str(part) for part in found.absolute_path)
    return f"argument '{at}': {found.message[:300]}" if at else str(found.message)[:300]


@lru_cache(maxsize=1)
def _validator() -> tuple[Any, Any, Any]:
    """jsonschema's, without what a foreign schema could stall (patterns) or fetch (references)."""
    import jsonschema  # type: ignore[import-untyped]
    from referencing import Registry

    def ignored(*_: Any) -> Iterable[Any]:
        return ()

    base = jsonschema.Draft202012Validator
    kind = jsonschema.validators.extend(base, {"pattern": ignored, "patternProperties": ignored})
    registry: Any = Registry()
    return jsonschema, kind, registry
