"""Whether a command only reads: then it runs as its own words, and nobody has to be asked."""

from __future__ import annotations

import shlex

from sonia.tools.shell import grammar
from sonia.tools.shell.grammar import Argv, Script
from sonia.tools.shell.own_ways import OWN_WAYS, VERSIONED
from sonia.tools.shell.readers import READERS


def only_reads(command: str) -> Script | None:
    """The programs of `command`, when each is known to look at the workspace and no more.

    None says nothing about a command but that a person has to.
    """
    script = grammar.read(command)
    return script if script and all(map(_reads, script.programs())) else None


def programs(command: str) -> tuple[str, ...]:
    """Every program of `command` with its words, quoted where they need it; empty if not plain."""
    script = grammar.read(command)
    return tuple(map(shlex.join, script.programs())) if script else ()


def _reads(argv: Argv) -> bool:
    name, *words = argv
    if own := OWN_WAYS.get(name):
        return own(words) or words == ["--version"]
    if options := READERS.get(name):
        return options.allows(words) or words in (["--version"], ["--help"])
    return name in VERSIONED and words == ["--version"]
