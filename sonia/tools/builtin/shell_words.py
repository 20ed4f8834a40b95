"""Reading a command just far enough to help: its first word, and the files it names.

Nothing here decides what may run. When unsure it answers nothing, and the person is asked.
"""

from __future__ import annotations

import re
import shlex
import shutil

from sonia.tools.bubblewrap import PATH

MAX_WORDS = 32

_PLAIN = re.compile(r"^[A-Za-z][A-Za-z0-9_.+-]*$")
_ASSIGNMENT = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*=")
_BUILTINS = re.compile(
    "alias|bg|break|case|cd|command|continue|echo|eval|exec|exit|export|false|fg|for|getopts|hash"
    "|if|jobs|kill|local|printf|pwd|read|readonly|return|set|shift|test|times|trap|true|type"
    "|ulimit|umask|unalias|unset|until|wait|while"
)

# What people type elsewhere → what it is called here.
ELSEWHERE = {
    "get-childitem": "ls",
    "gci": "ls",
    "dir": "ls",
    "get-content": "cat",
    "gc": "cat",
    "set-content": "printf '…' > file",
    "add-content": "printf '…' >> file",
    "get-location": "pwd",
    "gl": "pwd",
    "set-location": "cd",
    "copy-item": "cp",
    "copy": "cp",
    "move-item": "mv",
    "move": "mv",
    "rename-item": "mv",
    "ren": "mv",
    "remove-item": "rm",
    "del": "rm",
    "erase": "rm",
    "new-item": "touch or mkdir",
    "select-string": "grep",
    "findstr": "grep",
    "get-process": "ps",
    "tasklist": "ps",
    "stop-process": "kill",
    "taskkill": "kill",
    "get-date": "date",
    "write-output": "echo",
    "write-host": "echo",
    "measure-object": "wc",
    "sort-object": "sort",
    "compare-object": "diff",
    "get-command": "command -v",
    "get-help": "man",
    "get-filehash": "sha256sum",
    "test-path": "test -e",
    "invoke-webrequest": "curl",
    "ipconfig": "ip addr",
    "cls": "clear",
    "clear-host": "clear",
}


def first_word(command: str) -> str | None:
    """The program that would run first, after assignments; None when that is not plain to see."""
    words = _split(command)
    while words and _ASSIGNMENT.match(words[0]):
        words = words[1:]
    if not words or (len(words) > 1 and words[1].startswith("(")):
        return None
    return words[0] if _PLAIN.match(words[0]) else None


def missing(command: str) -> str | None:
    """The first word, if it surely is no program, builtin or keyword on this host."""
    word = first_word(command)
    if word is None or _BUILTINS.fullmatch(word) or shutil.which(word, path=PATH):
        return None
    return word


def explain(word: str) -> str:
    """Why `word` can't run here, and what could."""
    here = "This host's shell is /bin/sh (Linux)."
    if like := ELSEWHERE.get(word.lower()):
        whose = "a PowerShell command" if "-" in word or len(word) <= 3 else "a Windows command"
        return f"{here} '{word}' is {whose}; the like of it here is '{like}'."
    return f"{here} It has no command '{word}'."


def words(command: str) -> tuple[str, ...]:
    """The first words of a command, any of which might name a file."""
    return tuple(_split(command)[:MAX_WORDS])


def _split(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:
        return []
