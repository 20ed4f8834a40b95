"""Programs whose words are a small language of their own: which of it only reads."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from sonia.tools.shell.options import Options, inside

Check = Callable[[Sequence[str]], bool]

VERSIONED = frozenset(
    (
        "python3", "git", "gcc", "g++", "cc", "make", "perl", "ruby", "bash", "tar", "sed", "gawk",
        "rsync", "java", "node",
    )
)  # fmt: skip

_FIND_ALONE = frozenset(
    (
        "-print", "-print0", "-ls", "-prune", "-empty", "-readable", "-writable", "-executable",
        "-nouser", "-nogroup", "-true", "-false", "-not", "-and", "-or", "-a", "-o", "-mount",
        "-xdev", "-depth", "-daystart", "-noleaf", "-quit",
    )
)  # fmt: skip
_FIND_VALUED = frozenset(
    (
        "-name", "-iname", "-path", "-ipath", "-wholename", "-iwholename", "-regex", "-iregex",
        "-regextype", "-type", "-xtype", "-size", "-mtime", "-mmin", "-atime", "-amin", "-ctime",
        "-cmin", "-maxdepth", "-mindepth", "-perm", "-user", "-group", "-uid", "-gid", "-links",
        "-inum", "-lname", "-ilname", "-fstype", "-used", "-printf", "-newermt",
    )
)  # fmt: skip
_FIND_FILES = frozenset(("-newer", "-anewer", "-cnewer", "-samefile"))

_SED_ADDRESS = r"(\d+|\$)"
_SED = re.compile(rf"({_SED_ADDRESS}(,{_SED_ADDRESS})?)?p")
_JQ_PATH = r"\.(\w+|\"[^\"\\]*\"|\[\d*\])?(\.\w+|\[\d*\]|\[\"[^\"\\]*\"\])*"
_JQ_WORD = (
    "length|keys|values|sort|unique|add|first|last|type|reverse|min|max|any|all|flatten|not"
    "|to_entries|from_entries|tostring|tonumber|ascii_downcase|ascii_upcase"
)
_JQ = re.compile(rf" *({_JQ_PATH}|{_JQ_WORD})( *\| *({_JQ_PATH}|{_JQ_WORD}))* *")
_TAR = re.compile(r"-?t[vzjJ]*f|-?[vzjJ]+tf")
_ARCHIVE = re.compile(r"[A-Za-z0-9_./+-]+")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:@+*/-]*")
_IP_OPTIONS = frozenset(("-4", "-6", "-br", "-brief", "-s", "-stats", "-j", "-json", "-c", "-o"))
_IP_OBJECTS = frozenset(
    ("a", "addr", "address", "l", "link", "r", "route", "n", "neigh", "neighbour", "rule", "maddr")
)
_IP_VERBS = frozenset(("s", "sh", "show", "ls", "list", "g", "get"))
_SYSTEMCTL = frozenset(
    (
        "status", "show", "cat", "is-active", "is-enabled", "is-failed", "get-default",
        "list-units", "list-unit-files", "list-timers", "list-sockets", "list-dependencies",
        "list-jobs", "list-machines", "list-automounts", "list-paths",
    )
)  # fmt: skip
_SYSTEMCTL_OPTIONS = Options(
    short="alq",
    short_valued="tpn",
    long=frozenset(
        ("all", "full", "no-pager", "no-legend", "user", "system", "quiet", "reverse", "plain",
         "failed", "show-types", "recursive", "value")
    ),
    long_valued=frozenset(("type", "state", "property", "lines", "output")),
    operands="text",
)  # fmt: skip
_APT = frozenset(("list", "show", "search", "policy", "depends", "rdepends", "madison", "showpkg"))
_PS = re.compile(r"-?[aefhjlmuvwxAdHFLT]+")

_JQ_OPTIONS = Options(short="rceaSCMjs", long=frozenset(
    ("raw-output", "compact-output", "exit-status", "ascii-output", "sort-keys", "color-output",
     "monochrome-output", "join-output", "slurp", "tab")
))  # fmt: skip
_DATE_OPTIONS = Options(
    short="uR",
    short_valued="dr",
    long=frozenset(("utc", "universal", "rfc-email", "debug")),
    long_valued=frozenset(("date", "reference", "rfc-3339")),
    long_optional=frozenset(("iso-8601",)),
    operands="text",
    most=1,
)


def find(words: Sequence[str]) -> bool:
    """Folders, then tests that look and actions that print to standard output."""
    rest = list(words)
    while rest and not rest[0].startswith("-"):
        if not inside(rest.pop(0)):
            return False
    while rest:
        word = rest.pop(0)
        if word in _FIND_ALONE:
            continue
        if word not in _FIND_VALUED | _FIND_FILES or not rest:
            return False
        value = rest.pop(0)
        if word in _FIND_FILES and not inside(value):
            return False
    return True


def sed(words: Sequence[str]) -> bool:
    """`-n` and lines to print, nothing that edits."""
    rest = list(words)
    if rest[:1] not in (["-n"], ["--quiet"], ["--silent"]) or len(rest) < 2:
        return False
    return _SED.fullmatch(rest[1]) is not None and all(
        inside(word) and not word.startswith("-") for word in rest[2:]
    )


def jq(words: Sequence[str]) -> bool:
    """A path into the document; nothing that looks at the environment or other files."""
    options = [word for word in words if word.startswith("-")]
    operands = [word for word in words if not word.startswith("-")]
    if not operands or not _JQ_OPTIONS.allows(options):
        return False
    return _JQ.fullmatch(operands[0]) is not None and all(map(inside, operands[1:]))


def date(words: Sequence[str]) -> bool:
    """Shows a moment; without the `+` a word would set the clock."""
    shows = all(word.startswith(("+", "-")) or _after_option(words, word) for word in words)
    return shows and _DATE_OPTIONS.allows(words)


def tar(words: Sequence[str]) -> bool:
    """Lists one archive that is a local file."""
    return (
        len(words) == 2
        and _TAR.fullmatch(words[0]) is not None
        and _ARCHIVE.fullmatch(words[1]) is not None
        and not words[1].startswith("-")
        and inside(words[1])
    )


def unzip(words: Sequence[str]) -> bool:
    """Lists or tests an archive."""
    return (
        len(words) == 2
        and words[0] in ("-l", "-v", "-t", "-Z", "-Z1")
        and not words[1].startswith("-")
        and inside(words[1])
    )


def ps(words: Sequence[str]) -> bool:
    """Letters that choose what is shown, but not the environment (`e` without a dash)."""
    return all(_PS.fullmatch(word) and (word[0] == "-" or "e" not in word) for word in words)


def ip(words: Sequence[str]) -> bool:
    """Shows; what is neither `show`, `list` nor `get` sets or runs something."""
    rest = list(words)
    while rest and rest[0] in _IP_OPTIONS:
        rest.pop(0)
    if not rest or rest.pop(0) not in _IP_OBJECTS:
        return False
    return not rest or (rest[0] in _IP_VERBS and all(map(_NAME.fullmatch, rest)))


def systemctl(words: Sequence[str]) -> bool:
    """Asks about units."""
    return _by_verb(words, _SYSTEMCTL, _SYSTEMCTL_OPTIONS)


def apt(words: Sequence[str]) -> bool:
    """Asks about packages."""
    return _by_verb(words, _APT, Options(operands="text"))


def dpkg(words: Sequence[str]) -> bool:
    """Tells of packages and their files; `-l` would page."""
    return (
        bool(words)
        and words[0] in ("-L", "-s", "-S", "--listfiles", "--status", "--search")
        and all(map(_NAME.fullmatch, words[1:]))
    )


def _by_verb(words: Sequence[str], verbs: frozenset[str], options: Options) -> bool:
    verb = next((word for word in words if not word.startswith("-")), None)
    return verb in verbs and options.allows(words)


def _after_option(words: Sequence[str], word: str) -> bool:
    place = list(words).index(word)
    return place > 0 and words[place - 1] in ("-d", "-r", "--date", "--reference", "--rfc-3339")


OWN_WAYS: dict[str, Check] = {
    "find": find,
    "sed": sed,
    "jq": jq,
    "date": date,
    "tar": tar,
    "unzip": unzip,
    "ps": ps,
    "ip": ip,
    "systemctl": systemctl,
    "apt": apt,
    "apt-cache": apt,
    "dpkg": dpkg,
}
