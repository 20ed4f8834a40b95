"""Which rule of the policy is about a call. Patterns are globs, never regular expressions."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec

from sonia.control.interface import Mode, Plan, Rule
from sonia.control.touching import Touched
from sonia.errors import ConfigurationError, InvalidRequest
from sonia.types import Value

MAX_RULES = 500

_PATTERN = re.compile(r"\*|[a-z][a-z0-9_-]*(?:\.[a-z0-9_-]+)*(?:\.?\*)?")


class _File(Value):
    rules: tuple[Rule, ...] = ()


def matches(rule: Rule, plan: Plan, touches: Touched, mode: Mode) -> bool:
    """Whether `rule` is about this call: every condition that it names holds.

    To allow, a rule has to be about all that a call touches; to ask or deny, about any of it.
    """
    enough = all if rule.verdict == "allow" else any
    return (
        _named(rule.tool, plan.tool)
        and _touches(rule.path, map(_plain, touches.paths), enough)
        and _touches(rule.host, touches.hosts, enough)
        and _runs(rule, touches)
        and rule.user in (None, plan.user_id)
        and rule.mode in (None, mode)
    )


def check_rules(rules: Iterable[Rule]) -> None:
    """Refuse a rule that could never match. Raises `InvalidRequest`."""
    for place, rule in enumerate(rules):
        if not _PATTERN.fullmatch(rule.tool):
            raise InvalidRequest(
                f"rules[{place}].tool: {rule.tool!r} can't match a tool. Write its name in lower "
                "case ('file.write'), a prefix that ends in '*' ('file.*'), or '*'.",
                pointer=f"/rules/{place}/tool",
            )
        for name in ("path", "host", "command"):
            if getattr(rule, name) == "":
                raise InvalidRequest(
                    f"rules[{place}].{name}: it is empty and can't match. Write a pattern like "
                    "'notes/*', or leave it out.",
                    pointer=f"/rules/{place}/{name}",
                )
        if place >= MAX_RULES:
            raise InvalidRequest(f"There may be {MAX_RULES} rules.", pointer="/rules")


def read_file(path: Path | None) -> tuple[Rule, ...]:
    """The rules of a TOML file, `[[rules]]` in order. Raises `ConfigurationError`."""
    if path is None:
        return ()
    try:
        rules = msgspec.toml.decode(path.read_bytes(), type=_File).rules
        check_rules(rules)
    except OSError as error:
        raise ConfigurationError(
            f"services.eva_os.rules_file: {path} can't be read ({error.strerror}).",
            key="services.eva_os.rules_file",
        ) from error
    except (msgspec.MsgspecError, InvalidRequest, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"services.eva_os.rules_file: {path}: {error}", key="services.eva_os.rules_file"
        ) from error
    return rules


def _named(pattern: str, tool: str) -> bool:
    return tool.startswith(pattern[:-1]) if pattern.endswith("*") else tool == pattern


def _touches(pattern: str | None, things: Iterable[str], enough: object) -> bool:
    if pattern is None:
        return True
    found = [fnmatchcase(thing, pattern) for thing in things]
    return bool(found) and (all(found) if enough is all else any(found))


def _runs(rule: Rule, touches: Touched) -> bool:
    """Whether the rule is about the command line.

    A pattern allows programs, never a text: in `make x; rm y` the `*` of `make *` is no part of
    what a shell reads. What isn't plain words can be allowed as the exact line alone.
    """
    if rule.command is None:
        return True
    if touches.command is None:
        return False
    if rule.verdict == "allow":
        return touches.command == rule.command or _touches(rule.command, touches.programs, all)
    return _touches(rule.command, (touches.command, *touches.programs), any)


def _plain(path: str) -> str:
    """A path in one spelling, so that `./a//b` is under `a/*`; what climbs out stays visible."""
    return posixpath.normpath(path)
