"""`sonia doctor`: what is well, what isn't, and what to do about it."""

from __future__ import annotations

import argparse
import queue
import threading
from collections.abc import Sequence
from typing import Any

from sonia.commands.examinations import GROUPS, Examination, Finding, Mark, Subject
from sonia.config import Config
from sonia.errors import ConfigurationError

PATIENCE_S = 8.0
MARKS = {Mark.WELL: "✓", Mark.WORTH_KNOWING: "!", Mark.WRONG: "✗"}


def add(subparsers: Any) -> None:
    """Add the command."""
    about = "Look for what is wrong, and say what to do."
    more = (
        f"{about} ✓ is well, ! is worth knowing, ✗ needs mending. Works whether Sonia runs or not. "
        "Exit status: 1 when there is a ✗."
    )
    parser = subparsers.add_parser("doctor", help=about, description=more)
    parser.set_defaults(run=run, takes_broken=True)


def run(args: argparse.Namespace, config: Config | ConfigurationError) -> int:
    """Examine everything at once; print the groups in their order."""
    subject = Subject(config)
    worst = Mark.WELL
    for title, findings in examine(subject, GROUPS):
        print(title)
        for finding in findings:
            worst = max(worst, finding.mark)
            print(f"  {MARKS[finding.mark]} {finding.what}")
            if finding.advice:
                print(f"      {finding.advice}")
    print(_verdict(worst))
    return 1 if worst is Mark.WRONG else 0


def examine(
    subject: Subject, groups: Sequence[tuple[str, Examination]], patience_s: float = PATIENCE_S
) -> list[tuple[str, list[Finding]]]:
    """Run every group in its own thread; one that hangs is a finding, not a hung doctor."""
    answers: list[queue.SimpleQueue[list[Finding]]] = []
    for title, examination in groups:
        answer: queue.SimpleQueue[list[Finding]] = queue.SimpleQueue()
        threading.Thread(
            target=_ask, args=(examination, subject, answer), name=title, daemon=True
        ).start()
        answers.append(answer)
    found = []
    for (title, _), answer in zip(groups, answers, strict=True):
        try:
            found.append((title, answer.get(timeout=patience_s)))
        except queue.Empty:
            late = Finding(Mark.WRONG, f"No answer within {patience_s:g} s.", "Try again.")
            found.append((title, [late]))
    return found


def _ask(
    examination: Examination, subject: Subject, answer: queue.SimpleQueue[list[Finding]]
) -> None:
    findings: list[Finding] = []
    try:
        findings.extend(examination(subject))
    except Exception as error:  # noqa: BLE001  a check that can't be made is what we came to find
        what = f"Could not be examined: {type(error).__name__}: {error}"
        findings.append(Finding(Mark.WRONG, what, "Please report this."))
    answer.put(findings)


def _verdict(worst: Mark) -> str:
    match worst:
        case Mark.WELL:
            return "All well."
        case Mark.WORTH_KNOWING:
            return "Sonia can work."
        case _:
            return "Mend what is marked ✗."
