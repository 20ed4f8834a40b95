"""What is kept of what people say, on labelled sentences: `python -m benchmarks.remembering`.

Each row of `benchmarks/data/remembering.jsonl` is one utterance, with the words that each memory
worth having of it must hold (none where nothing is worth keeping), made by hand. Beside it the
plain alternative, keeping everything. Takes a second; asserts nothing.

Read `fresh` alone as what to expect of unseen sentences: those were written after the rules and
scored once. `dev` was tuned on, and the rules' author had read `held-out` too, so both flatter
the rules. All three have one author, and half of `fresh` is junk made to be hard.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec

from sonia.memory.writing import worth_keeping

DATA = Path(__file__).parent / "data" / "remembering.jsonl"
Keep = Callable[[str], Sequence[str]]


class Labelled(msgspec.Struct, frozen=True, kw_only=True):
    """One utterance. `keep` has, for each memory wanted, words that must all be in it."""

    kind: str
    split: str
    said: str
    keep: tuple[tuple[str, ...], ...]


class Counted(msgspec.Struct, kw_only=True):
    """Memories wanted, memories made, and made ones that were wanted."""

    wanted: int = 0
    made: int = 0
    right: int = 0


def by_rules(said: str) -> Sequence[str]:
    """What Sonia keeps."""
    return [kept.content for kept in worth_keeping(said)]


def everything(said: str) -> Sequence[str]:
    """The utterance itself, always."""
    return [said]


def counted(rows: Iterable[Labelled], keep: Keep) -> Counted:
    """A made memory is right when it holds the words of one wanted; one wanted counts once."""
    total = Counted()
    for row in rows:
        made = list(keep(row.said))
        total.wanted += len(row.keep)
        total.made += len(made)
        for words in row.keep:
            hit = next((m for m in made if all(w.lower() in m.lower() for w in words)), None)
            if hit is not None:
                made.remove(hit)
                total.right += 1
    return total


def main() -> None:
    """Print recall and the junk rate of each way, by split and by kind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA, help="rows of the same form")
    rows = [
        msgspec.json.decode(line, type=Labelled)
        for line in parser.parse_args().data.read_bytes().splitlines()
        if line.strip()
    ]
    print(f"{len(rows)} utterances. Recall: of those wanted. Junk: of those made.\n")
    ways = f"{'rules: recall':>14}{'junk':>6}  {'everything: recall':>19}{'junk':>6}"
    print(f"{'':24}{'rows':>5}  {ways}")
    for split in sorted({row.split for row in rows}):
        _line(f"all of {split}", [row for row in rows if row.split == split])
        for kind in sorted({row.kind for row in rows}):
            _line(f"  {kind}", [row for row in rows if (row.split, row.kind) == (split, kind)])


def _line(name: str, rows: list[Labelled]) -> None:
    rules, naive = counted(rows, by_rules), counted(rows, everything)
    print(
        f"{name:24}{len(rows):5}  {_share(rules.right, rules.wanted):>14}"
        f"{_share(rules.made - rules.right, rules.made):>6}  "
        f"{_share(naive.right, naive.wanted):>19}{_share(naive.made - naive.right, naive.made):>6}"
    )


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "-"


if __name__ == "__main__":
    main()
