"""From a file and the environment to one plain document; and what a secret is."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from sonia.errors import ConfigurationError

if TYPE_CHECKING:
    from sonia.config_errors import Mistake

PLACEHOLDERS = frozenset({"", "required", "optional", "changeme"})
PREFIX = "SONIA__"
GUIDE_VARIABLES = {
    "ANTHROPIC_API_KEY": ("services", "model_router", "providers", "anthropic", "api_key"),
    "OPENROUTER_API_KEY": ("services", "model_router", "providers", "openrouter", "api_key"),
    "OPENAI_API_KEY": ("services", "model_router", "providers", "openai", "api_key"),
    "OLLAMA_BASE_URL": ("services", "model_router", "providers", "ollama", "base_url"),
}


class Secret:
    """A string that never shows itself: `repr`, `str` and encoders see `***`.

    False when it was left empty or is a placeholder such as `required`.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = "" if _empty(text) else text.strip()

    def reveal(self) -> str:
        """The secret itself; for the one line that sends it."""
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __repr__(self) -> str:
        return "Secret('***')" if self else "Secret('')"

    def __str__(self) -> str:
        return "***" if self else ""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)


def decode(kind: type, value: Any) -> Any:
    """msgspec's hook for what it doesn't know: secrets."""
    if kind is Secret and isinstance(value, str):
        if not value.strip().isprintable() or " " in value.strip():
            raise ValueError("A secret has no spaces and no control characters")
        return Secret(value)
    raise TypeError(f"Expected `str`, got `{type(value).__name__}`")


def encode(value: Any) -> Any:
    """The way back, which no secret survives."""
    if isinstance(value, Secret):
        return str(value)
    raise TypeError(type(value).__name__)


# --- the file --------------------------------------------------------------------------


def read(path: Path) -> dict[str, Any]:
    """Decode a file, JSON if it is called so and TOML otherwise. Raises `ConfigurationError`."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}.", path=str(path)) from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigurationError(
            f"{path}: not UTF-8 on line {line}. Save it as UTF-8.", path=str(path)
        ) from error
    return _json(path, text) if path.suffix.lower() == ".json" else _toml(path, text)


def _toml(path: Path, text: str) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigurationError(f"{path}: not TOML: {error}.", path=str(path)) from error


def _json(path: Path, text: str) -> dict[str, Any]:
    import json

    if not text.strip():
        return {}
    try:
        raw = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise ConfigurationError(
            f"{path}: not JSON: {error.msg} (at line {error.lineno}, column {error.colno}).",
            path=str(path),
        ) from error
    except _TwiceError as error:
        lines = [n for n, line in enumerate(text.splitlines(), 1) if f'"{error}"' in line]
        where = ", ".join(map(str, lines))
        raise ConfigurationError(
            f"{path}: the key '{error}' stands twice in one object (it is on lines {where}).",
            path=str(path),
        ) from error
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path}: not JSON: {error}.", path=str(path)) from error
    if not isinstance(raw, dict):
        raise ConfigurationError(f"{path}: expected an object, {{…}}.", path=str(path))
    return raw


class _TwiceError(Exception):
    pass


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _TwiceError(key)
        found[key] = value
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


# --- the environment -------------------------------------------------------------------


def overlay(
    raw: dict[str, Any], environ: Mapping[str, str], kind: Any
) -> tuple[dict[str, Any], dict[str, str]]:
    """Lay the environment over a document that fits `kind`.

    Returns the new document, and which variable set which key. Raises `ConfigurationError`
    naming the variable.
    """
    merged: dict[str, Any] = copy.deepcopy(raw)
    overrides: dict[str, str] = {}
    for name in sorted(environ):
        if name.startswith(PREFIX):
            path = _names(name, kind)
            _table(merged, path)[path[-1]] = _value(name, environ[name], path, kind)
            overrides[".".join(path)] = name
    for name, path in GUIDE_VARIABLES.items():
        table = _table(merged, path)
        if environ.get(name) and _empty(table.get(path[-1], "")):
            table[path[-1]] = _value(name, environ[name], path, kind)
            overrides[".".join(path)] = name
    return merged, overrides


def _empty(value: object) -> bool:
    return isinstance(value, str) and value.strip().lower() in PLACEHOLDERS


def _table(document: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    for key in path[:-1]:
        document = document.setdefault(key, {})
    return document


def _names(name: str, kind: Any) -> tuple[str, ...]:
    """The path that a variable means; a name that means nothing is refused."""
    from sonia.config_errors import free_values, keys_of, unknown

    path = tuple(name.removeprefix(PREFIX).lower().split("__"))
    for depth, key in enumerate(path):
        keys, free = keys_of(kind), free_values(kind)
        if free is not None and key:
            kind = free
        elif keys is not None and key in keys:
            kind = keys[key]
        elif keys is not None:
            raise _refused(name, unknown(path[: depth + 1], tuple(keys)))
        else:
            what = f"{'.'.join(path[:depth])} is a single value and has no keys"
            raise ConfigurationError(f"environment variable {name}: {what}.", variable=name)
    return path


def _value(name: str, text: str, path: tuple[str, ...], kind: Any) -> Any:
    from sonia.config_errors import free_values, keys_of, mistakes

    for key in path:
        keys = keys_of(kind)
        kind = keys[key] if keys is not None else free_values(kind)
    try:
        value = msgspec.convert(text, kind, strict=False, dec_hook=decode)
    except msgspec.ValidationError:
        pass
    else:
        return text if isinstance(value, Secret) else value
    try:
        plain = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        plain = text
    if found := mistakes(kind, plain if isinstance(plain, dict | list) else text, path):
        raise _refused(name, found[0])
    return plain


def _refused(name: str, mistake: Mistake) -> ConfigurationError:
    return ConfigurationError(
        f"environment variable {name}: {mistake.key}: {mistake.text}",
        variable=name,
        key=mistake.key,
        pointer=mistake.pointer,
    )
