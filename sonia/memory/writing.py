"""What of a person's words is worth finding again: the floor, by rules, without a model.

Kept are statements about the person and their world, and whatever they ask to have remembered.
Not kept are questions, things to do now, greetings, thanks, talk about the talk itself, what is
only supposed or quoted, and what was pasted. The rules are for English; other languages keep
only what fits them by chance, which is little.
"""

from __future__ import annotations

import datetime as dt
from typing import Literal

from sonia.memory import judging
from sonia.memory.dates import dated, when
from sonia.memory.sentences import apart, plain, sentences, without_lead, without_rider
from sonia.types import Value, now

Kind = Literal["fact", "preference", "episode", "task"]
MIN_WORDS = 3
MAX_CHARS = 1_000
MAX_HEARD_CHARS = 20_000  # what is longer was pasted, not said
IMPORTANCE = {"fact": 0.5, "preference": 0.6, "episode": 0.4, "task": 0.6}
ASKED_FOR = 0.8  # what a person asked to have remembered, and what could hurt them


class Kept(Value):
    """One sentence, or a few that belong together, worth a memory.

    `importance` in [0, 1]; `valid_from` when the words tell since when it holds.
    """

    type: Kind
    content: str
    importance: float = 0.5
    valid_from: dt.datetime | None = None


def worth_keeping(text: str, said_at: dt.datetime | None = None) -> tuple[Kept, ...]:
    """What to remember of what a person said, in the order in which they said it.

    Words that mean another day when read on another ("tomorrow") get the day beside them,
    counted from `said_at`.
    """
    if len(text) > MAX_HEARD_CHARS or judging.pasted(text):
        return ()
    at = said_at or now()
    kept: list[Kept] = []
    went_on = False
    for whole in sentences(plain(text)):
        if went_on and judging.GOES_ON.match(whole) and not whole.endswith("?"):
            kept[-1] = _joined(kept[-1], whole)
            continue
        found = _of_sentence(whole, at)
        went_on = bool(found)
        kept.extend(found)
    return tuple(kept)


def may_hold_more(text: str) -> bool:
    """Whether a model might find in it what the rules do not: said, not pasted, and not a word."""
    return (
        len(text) <= MAX_HEARD_CHARS and len(text.split()) > MIN_WORDS and not judging.pasted(text)
    )


def kept_of(content: str, at: dt.datetime, *, asked_for: bool = False) -> Kept:
    """A statement as a memory: its kind, its weight, since when it holds."""
    kind = kind_of(content)
    moment = when(content, at)
    since = moment.at if moment and moment.at <= at and kind != "task" else None
    weighty = asked_for or judging.VITAL.search(content) is not None
    return Kept(
        type=kind,
        content=dated(content, at),
        importance=ASKED_FOR if weighty else IMPORTANCE[kind],
        valid_from=since,
    )


def kind_of(content: str) -> Kind:
    """A liking, something ahead, something that happened, or just so."""
    if judging.LIKES.search(content):
        return "preference"
    if judging.AHEAD.search(content):
        return "task"
    if judging.HAPPENS.search(content) and not judging.LASTS.search(content):
        return "episode"
    return "fact"


def _of_sentence(whole: str, at: dt.datetime) -> list[Kept]:
    if judging.MOCKING.match(whole):
        return []
    said = without_lead(whole)
    if len(said) > MAX_CHARS:
        return []
    if asked := judging.asked_to_keep(said):
        return [kept_of(asked, at, asked_for=True)]
    parts = [without_lead(part) for part in without_rider(said or whole)]
    told = [one for part in parts if _is_statement(part) for one in _each(part)]
    return [kept_of(one, at) for one in told]


def _each(statement: str) -> list[str]:
    """What it tells, one by one, if each stands by itself."""
    parts = apart(statement)
    return parts if all(_is_statement(part) for part in parts) else [statement]


def _is_statement(said: str) -> bool:
    if judging.STANDING.match(said):
        return True
    if said.endswith("?") or (len(said.split()) < MIN_WORDS and not judging.SHORT.match(said)):
        return False
    return judging.is_told(said)


def _joined(first: Kept, more: str) -> Kept:
    return Kept(
        type=first.type,
        content=f"{first.content} {more}",
        importance=first.importance,
        valid_from=first.valid_from,
    )
