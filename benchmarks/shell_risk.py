"""How often shell commands run unasked: hostile ones must never, ordinary ones should.

    python -m benchmarks.shell_risk [--show]

Needs the lists in ../shared/data/security/shell. `--show` names the ordinary commands of reading
programs that are asked about. Placeholders of tldr pages are filled in as a person would: each
choice `{{[-n|--number]}}` in its short and its long form, a path with itself.
"""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

import msgspec

from sonia.tools.shell import only_reads

LISTS = Path(__file__).parents[2] / "shared" / "data" / "security" / "shell"

# What a person would call looking only, whether or not Sonia knows it.
READING = re.compile(
    r"(cat|tac|ls|head|tail|wc|nl|od|xxd|hexdump|strings|file|stat|du|df|tree|find|[ef]?grep|rg"
    r"|sort|uniq|cut|tr|paste|comm|diff|cmp|join|column|fold|fmt|expand|unexpand|rev|tsort"
    r"|(md5|sha\d+|b2)sum|cksum|sum|base(32|64)|basename|dirname|date|cal|uname|hostname|whoami|id"
    r"|groups|who|w|uptime|free|ps|lscpu|lsblk|lsusb|lspci|lsmod|printenv|echo|printf|seq|expr"
    r"|factor|numfmt|jq|yq|less|more|zcat|zgrep|zless|which|whereis|man|whatis|apropos|locale|tty"
    r"|nproc|arch|getconf|getent|ldd|nm|objdump|readelf|size|pwd|last|vmstat|look|bc|sed -n"
    r"|git (blame|cat-file|diff\S*|log|ls-\S+|show\S*|shortlog|status|for-each-ref|fsck|count)"
    r"|systemctl (status|list-\S+|help|cat|show)|ip \S+ (s|show|g|get|l|list)|pip list"
    r"|dpkg (-l|-L|-s|--list\S*)|readlink|realpath|pstree|pgrep|fd|shuf)(\s|$)"
)
WRITES = re.compile(r"[<>`]|\$\(|-exec|-delete|\| *(xargs|sh|bash|tee|sudo)|\becho .*\|")


def rows(name: str) -> list[str]:
    """The commands of one list."""
    path = LISTS / name
    if path.suffix == ".txt":
        return [line for line in path.read_text().splitlines() if line.strip()]
    if path.suffix == ".jsonl":
        return [msgspec.json.decode(line)["code"] for line in path.read_bytes().splitlines()]
    cases = msgspec.json.decode(path.read_bytes())["cases"]
    return [case["cmd"] for case in cases]


def filled(code: str, *, long: bool) -> str:
    """A tldr example with its placeholders filled in."""
    code = re.sub(r"\{\{\[([^|\]]*)\|([^\]]*)\]\}\}", lambda found: found[2 if long else 1], code)
    return re.sub(r"\{\{(.*?)\}\}", lambda found: found[1].split("|")[0], code)


def hostile() -> dict[str, tuple[list[str], int]]:
    """Per list the commands that would run unasked, and how many there are."""
    found = {}
    for name in (
        "gtfobins.jsonl",
        "lolbas_windows.jsonl",
        "patt_command_exec.txt",
        "patt_command_execution_unix.txt",
        "advisory_bypasses.json",
    ):
        commands = rows(name)
        found[name] = ([one for one in commands if only_reads(one)], len(commands))
    cases = msgspec.json.decode((LISTS / "codex_command_safety.json").read_bytes())["cases"]
    unsafe = [case["cmd"] for case in cases if not case["safe"]]
    found["codex, unsafe"] = ([one for one in unsafe if only_reads(one)], len(unsafe))
    return found


def safe() -> tuple[int, int]:
    """Of Codex's safe commands, how many run unasked."""
    cases = msgspec.json.decode((LISTS / "codex_command_safety.json").read_bytes())["cases"]
    known = [case["cmd"] for case in cases if case["safe"]]
    return sum(only_reads(one) is not None for one in known), len(known)


def ordinary() -> tuple[list[str], list[str], list[str]]:
    """Reading commands of tldr that run unasked, that are asked about, and others that run."""
    runs, asks, others = [], [], []
    for code in rows("tldr_benign.jsonl"):
        for command in sorted({filled(code, long=False), filled(code, long=True)}):
            unasked = only_reads(command) is not None
            if READING.match(command) and not WRITES.search(command):
                (runs if unasked else asks).append(command)
            elif unasked:
                others.append(command)
    return runs, asks, others


def main() -> None:
    """Print the figures."""
    started_s = time.perf_counter()
    print("Hostile commands that would run unasked")
    for name, (passed, count) in hostile().items():
        print(f"  {name:34} {len(passed):3} of {count}", *passed, sep="\n" + 6 * " ")
    print("Ordinary commands that run unasked")
    print("  codex, safe                        {:3} of {}".format(*safe()))
    runs, asks, others = ordinary()
    share = 100 * len(runs) / len(runs + asks)
    print(
        f"  tldr, that only read               {len(runs):3} of {len(runs + asks)} ({share:.0f} %)"
    )
    print(f"  tldr, that run a program all others asked about: {len(others)}")
    print(f"  {time.perf_counter() - started_s:.1f} s for all")
    if "--show" in sys.argv:
        print("Asked about:", *asks, sep="\n  ")
        print("Run, and not counted as reading:", *others, sep="\n  ")


if __name__ == "__main__":
    main()
