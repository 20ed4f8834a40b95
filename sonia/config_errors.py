"""What is wrong with a configuration, and what would be right.

Walks the declared types beside the document, so that every mistake has its key's path, even
inside lists and free-form tables. A value is only ever quoted when it can't be a secret.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

from sonia.config_reading import Secret, decode
from sonia.errors import ConfigurationError

QUOTED_LENGTH = 24
_PRIVATE = ("key", "token", "secret", "password")
_PLAIN: dict[Any, str] = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
}
_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


class Mistake(msgspec.Struct, frozen=True):
    """One thing that is wrong, at the key whose names are `path`."""

    path: tuple[str, ...]
    text: str

    @property
    def key(self) -> str:
        """`services.pipecat.port`; list items as `[0]`."""
        return ".".join(self.path).replace(".[", "[")

    @property
    def pointer(self) -> str:
        """The path as a JSON Pointer (RFC 6901)."""
        names = (name.strip("[]") if name.startswith("[") else name for name in self.path)
        return "".join("/" + name.replace("~", "~0").replace("/", "~1") for name in names)


def mistakes(kind: Any, value: Any, path: tuple[str, ...] = ()) -> list[Mistake]:
    """Everything in `value` that doesn't fit `kind`, in the document's order."""
    return list(_walk(kind, value, path))


def refuse(
    found: list[Mistake], source: str | None, overrides: Mapping[str, str] | None = None
) -> ConfigurationError:
    """The error for `found`, one line for each; `source` is the file or the variable."""
    lines = []
    for mistake in found:
        variable = (overrides or {}).get(mistake.key)
        where = f"environment variable {variable}" if variable else source
        lines.append(f"{where}: {mistake.key}: {mistake.text}" if where else _bare(mistake))
    first = found[0]
    return ConfigurationError(
        "\n".join(lines),
        key=first.key,
        pointer=first.pointer,
        source=source,
        errors=[{"key": one.key, "pointer": one.pointer, "message": one.text} for one in found],
    )


def _bare(mistake: Mistake) -> str:
    return f"{mistake.key}: {mistake.text}" if mistake.path else mistake.text


def keys_of(kind: Any) -> dict[str, Any] | None:
    """The keys that a table of this kind has, with their kinds; `None` when it isn't one."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
    return None


def free_values(kind: Any) -> Any:
    """The kind of the values of a table with free keys; `None` when it isn't one."""
    return get_args(kind)[1] if get_origin(kind) is dict else None


def _walk(kind: Any, value: Any, path: tuple[str, ...]) -> Iterator[Mistake]:
    keys, free = keys_of(kind), free_values(kind)
    if isinstance(value, dict) and (keys is not None or free is not None):
        for key, item in value.items():
            if keys is None:
                yield from _walk(free, item, (*path, key))
            elif key in keys:
                yield from _walk(keys[key], item, (*path, key))
            else:
                yield unknown((*path, key), tuple(keys))
    elif isinstance(value, list) and get_origin(kind) is tuple:
        for index, item in enumerate(value):
            yield from _walk(get_args(kind)[0], item, (*path, f"[{index}]"))
    else:
        try:
            msgspec.convert(value, kind, dec_hook=decode)
        except msgspec.ValidationError:
            yield Mistake(path, f"expected {expected(kind)}, found {_found(kind, value, path)}.")


def unknown(path: tuple[str, ...], known: tuple[str, ...]) -> Mistake:
    """A key that nobody reads, with the likeliest one that somebody does."""
    import difflib

    near = difflib.get_close_matches(path[-1], known, n=1)
    hint = f"Did you mean '{near[0]}'? " if near else ""
    return Mistake(path, f"unknown key. {hint}Known keys here: {', '.join(known)}.")


def expected(kind: Any) -> str:
    """Say a kind: `an integer, at least 0, at most 65535`."""
    origin, inside = get_origin(kind), get_args(kind)
    if origin is Annotated:
        bounds = [
            f"{word} {limit:g}"
            for name, word in _BOUNDS.items()
            for meta in inside[1:]
            if (limit := getattr(meta, name, None)) is not None
        ]
        kind_name = "a string that is not empty" if inside[0] is str else expected(inside[0])
        return ", ".join([kind_name, *bounds])
    if origin is Literal:
        return "one of " + ", ".join(f'"{option}"' for option in inside)
    if origin in (Union, UnionType):
        return " or ".join(expected(one) for one in inside if one is not NoneType)
    if origin is tuple:
        return f'a list like ["a", "b"], each item {expected(inside[0])}'
    if kind is Secret:
        return "a string (the secret itself, without spaces)"
    for plain, name in _PLAIN.items():
        if kind is plain:
            return name
    return "a table"


def _found(kind: Any, value: Any, path: tuple[str, ...]) -> str:
    private = kind is Secret or any(word in path[-1].lower() for word in _PRIVATE if path)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"a string of {len(value)} characters" if private else quoted(value)
    if isinstance(value, int | float):
        return "a number" if private else repr(value)
    if value is None:
        return "null"
    names: dict[type, str] = {list: "a list", dict: "a table"}
    return names.get(type(value), f"a {type(value).__name__}")


def quoted(text: str) -> str:
    """`text` in quotation marks, or only its length when it is long enough to be a key."""
    if len(text) > QUOTED_LENGTH:
        return f"a string of {len(text)} characters"
    return '"' + text.encode("unicode_escape").decode() + '"'
