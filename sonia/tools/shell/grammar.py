"""A command line as words, or not at all.

An allow-list of syntax: programs with literal words, joined by `|`, `&&`, `||` and `;`. What
has an expansion, a pattern, a redirection, an assignment, a substitution, a function, an escape
or anything else that a shell would work out is not read. Parsed with tree-sitter's grammar of
bash; each word is taken from the text itself, and no byte of the text is left over.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Literal

from sonia.types import Value

if TYPE_CHECKING:
    from tree_sitter import Node, Parser

Joined = Literal["first", "then", "and", "or"]
Argv = tuple[str, ...]

MAX_CHARS = 2_000
MAX_PROGRAMS = 8

_ASCII = re.compile(r"[ -~]*")
_BARE = re.compile(r"[A-Za-z0-9_./,:=@%+^-]+")
# A backslash in double quotes stays one, but for those before what would be special there.
_QUOTED = re.compile(r'"([^"\\$`!]|\\[^"\\$`!])*"')
_JOINTS: dict[str, Joined] = {"&&": "and", "||": "or"}


class Step(Value):
    """One pipeline, and when it runs: always (`first`, `then`), or as the one before ended."""

    joined: Joined
    pipeline: tuple[Argv, ...]


class Script(Value):
    """Steps, from left to right as a shell takes them."""

    steps: tuple[Step, ...]

    def programs(self) -> tuple[Argv, ...]:
        """Every program with its words."""
        return tuple(argv for step in self.steps for argv in step.pipeline)


class _NotPlainError(Exception):
    """Something in it is not a literal word of a plain command."""


def read(command: str) -> Script | None:
    """The words of `command`; None when they can't be told for certain."""
    text = command.strip(" \n")
    if not text or len(text) > MAX_CHARS or not _ASCII.fullmatch(text):
        return None
    source = text.encode()
    root = _parser().parse(source).root_node
    if root.has_error:
        return None
    try:
        steps = _program(root)
    except (_NotPlainError, RecursionError):
        return None
    script = Script(steps=steps)
    if not steps or len(script.programs()) > MAX_PROGRAMS or not _covers(root, source):
        return None
    return script


@functools.cache
def _parser() -> Parser:
    import tree_sitter_bash
    from tree_sitter import Language, Parser

    return Parser(Language(tree_sitter_bash.language()))


def _program(node: Node) -> tuple[Step, ...]:
    steps: list[Step] = []
    for place, child in enumerate(node.children):
        if place % 2:
            _must(child.type == ";")
        else:
            steps += _statement(child, "then" if steps else "first")
    return tuple(steps)


def _statement(node: Node, joined: Joined) -> list[Step]:
    if node.type == "list":
        _must(len(node.children) == 3)
        left, joint, right = node.children
        _must(joint.type in _JOINTS and right.type != "list")
        return _statement(left, joined) + _statement(right, _JOINTS[joint.type])
    if node.type == "pipeline":
        stages, joints = node.children[::2], node.children[1::2]
        _must(all(joint.type == "|" for joint in joints))
        return [Step(joined=joined, pipeline=tuple(map(_command, stages)))]
    return [Step(joined=joined, pipeline=(_command(node),))]


def _command(node: Node) -> Argv:
    _must(node.type == "command" and bool(node.children))
    name, *arguments = node.children
    _must(name.type == "command_name" and len(name.children) == 1)
    _must(name.children[0].type == "word")
    return (_word(name.children[0]), *map(_word, arguments))


def _word(node: Node) -> str:
    text = (node.text or b"").decode()
    _must(not node.is_missing)
    if node.type in ("word", "number"):
        _must(_BARE.fullmatch(text) is not None)
        return text
    if node.type == "raw_string":
        return text[1:-1]
    _must(node.type == "string" and _QUOTED.fullmatch(text) is not None)
    return text[1:-1]


def _must(plain: bool) -> None:
    if not plain:
        raise _NotPlainError


def _covers(root: Node, source: bytes) -> bool:
    """Whether the leaves are all there is but for blanks: nothing was skipped."""
    end = 0
    for leaf in _leaves(root):
        if source[end : leaf.start_byte].strip(b" "):
            return False
        end = leaf.end_byte
    return not source[end:].strip(b" ")


def _leaves(node: Node) -> list[Node]:
    if node.type in ("word", "number", "raw_string", "string") or not node.children:
        return [node]
    return [leaf for child in node.children for leaf in _leaves(child)]
