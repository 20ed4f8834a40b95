"""What of a person's words is worth finding again: the floor, by rules, without a model.

Kept are statements about the person and their world, and whatever they ask to have remembered.
Not kept are questions, things to do, greetings, thanks and talk about the talk itself. The
rules are for English; other languages keep only what fits them by chance, which is little.
"""

from __future__ import annotations

import re
from typing import Literal

from sonia.types import Value

Kind = Literal["fact", "preference", "episode"]
MIN_WORDS = 3
MAX_CHARS = 1_000
MAX_HEARD_CHARS = 20_000  # what is longer was pasted, not said

_I = re.IGNORECASE

# A question or a request that rides on a statement: "My name is Sam, can you help me?"
_RIDER = re.compile(
    r"[,;]?\s+(?:and |but |so )?(?=(?:can|could|would|will) you\b|please\b|tell me\b"
    r"|(?:what|where|how|when|which)(?:'s| is| are| do| does| did| should| can| much| many)\b)",
    _I,
)
_SPACES = re.compile(r"[^\S\n]+")
_SENTENCE = re.compile(r"(?<=[.!?…])[\"')\]]*\s+|\n+")
_LEAD = re.compile(
    r"^(?:(?:oh|well|so|ok|okay|yes|yeah|yep|no|nope|hey|hi|hello|hiya|and|but|also|actually"
    r"|by the way|btw|um|uh|sonia|good (?:morning|evening|afternoon|night)|thanks|thank you"
    r"|sorry|right|listen|look|great|cool|sure)\b[\s,!.\-:—]*)+",
    _I,
)
_ASKED_TO = re.compile(
    r"^(?:(?:can|could|would|will) you\s+)?(?:please\s+)?"
    r"(?:remember|don'?t forget|do not forget|note|make a note|keep in mind|bear in mind)"
    r"(?:\s+(?:that|this)\b)?\s*[:,]?\s+(?!to\b|when\b|what\b|how\b|where\b|who\b|me\b)(?P<what>.+)$",
    _I | re.DOTALL,
)
_QUESTION = re.compile(
    r"^(?:what|who|whom|whose|where|when|why|how|which|is|are|am|was|were|do|does|did|can|could"
    r"|would|will|should|shall|may|might|have you|has|had|isn'?t|aren'?t|don'?t you|didn'?t)\b",
    _I,
)
_TALK = re.compile(
    r"^(?:i(?:'m| am| was)? (?:just )?(?:sorry|not sure|sure|wondering|asking|listening|curious"
    r"|confused|joking|kidding|done|ready|back|here|fine|good(?! (?:at|with))|ok|okay|glad|happy to"
    r"|afraid|going to ask)\b"
    r"|i (?:think so|guess|mean|agree|disagree|suppose|hope|wonder|believe so|hear)\b"
    r"|i (?:see|know|understand)(?:\W*$|[,;]| (?:that|what|how|why|now|it|you)\b)"
    r"|i (?:don'?t (?:know|understand|think|care|mind|get it|see|remember)"
    r"|didn'?t (?:get|mean|say|ask|catch)"
    r"|can(?:'t|not)? hear|have (?:a|another|one(?: more)?|some) (?:quick )?(?:question|request)s?"
    r"|(?:said|meant|asked) )"
    r"|i(?:'d| would) (?:like|love) (?:you )?to (?:know|ask|hear|see|talk)"
    r"|i(?:'d| would) (?:like you|appreciate)\b"
    r"|i (?:want|need|wanted) (?:you\b|to (?:know|ask|see|hear|find|talk|check)|an? (?:list|summary"
    r"|answer|poem|recipe|joke|script|function|idea|explanation|example|command)"
    r"|some (?:help|ideas|advice)|help)"
    r"|let'?s\b|let me\b|my (?:question|point) (?:is|was)\b|my bad\b)",
    _I,
)
_MINE = re.compile(r"\b(?:i|i'm|i've|i'd|i'll|my|mine|we|we're|we've|we'll|our|ours)\b", _I)
_DOES = re.compile(
    r"^(?:i|we)(?:'(?:m|re|ve|d|ll))?\s+(?:\w+\s+)*?\w+|^(?:my|our)\s+\w+.*\s\w+"
    r"|^(?:(?:last|this|next|every|in|on|at|since|when|after|before|yesterday|today|tomorrow|for|as"
    r"|most|during|both|all|one|some|two|three|four)\b.*\b(?:i|we|my|our)(?:'(?:m|re|ve|d|ll))?\s+\w+)",
    _I,
)
_OTHERS = re.compile(
    r"^(?!(?:It|That|This|There|Here|What|He|She|They|You|Your|Everything|Nothing|Something)\b)"
    r"(?:The\s+)?(?:[A-Z][\w\-]*)(?:(?:'s)?\s+[\w\-]+){0,2}(?:'s)?\s+"
    r"(?:is|was|are|were|lives|works|has|had|likes|loves|hates|prefers|moved|studies|plays|starts"
    r"|goes|went|speaks|got|became|turns|turned|needs|owns|runs on|costs)\s+\S"
)
_GOES_ON = re.compile(r"^(?:he|she|they|his|her|their|it|its)(?:'s|'re)?\s+\w+\s+\S", _I)
_LIKES = re.compile(
    r"\b(?:like|likes|love|loves|hate|hates|prefer|prefers|enjoy|enjoys|adore|dislike|favou?rite"
    r"|can'?t stand|fond of|rather (?:have|not|be)|fan of|big on|don'?t (?:like|eat|drink|enjoy)"
    r"|never (?:eat|drink|use)|always (?:eat|drink|take|use))\b",
    _I,
)
_HAPPENS = re.compile(
    r"\b(?:yesterday|today|tonight|tomorrow|(?:last|next) \w+|\w+ ago"
    r"|this (?:morning|afternoon|evening|week|weekend|month|year)"
    r"|(?:in|on|since) (?:january|february|march|april|may|june|july|august|september|october"
    r"|november|december|monday|tuesday|wednesday|thursday|friday|saturday|sunday"
    r"|spring|summer|autumn|winter|(?:19|20)\d\d)"
    r"|(?:i|we) (?:just |finally )?(?:went|met|bought|moved|visited|saw|started|finished|adopted"
    r"|lost|found|broke|sold|got|quit|left|ate|watched|passed|failed))\b",
    _I,
)


class Kept(Value):
    """One sentence, or a few that belong together, worth a memory."""

    type: Kind
    content: str


def worth_keeping(text: str) -> tuple[Kept, ...]:
    """What to remember of what a person said, in the order in which they said it."""
    kept: list[Kept] = []
    if len(text) > MAX_HEARD_CHARS:
        return ()
    went_on = False
    for sentence in _sentences(text):
        if went_on and _GOES_ON.match(sentence) and not sentence.endswith("?"):
            kept[-1] = Kept(type=kept[-1].type, content=f"{kept[-1].content} {sentence}")
            continue
        content = _statement(sentence)
        went_on = content is not None
        if content is not None:
            kept.append(Kept(type=kind_of(content), content=content))
    return tuple(kept)


def kind_of(content: str) -> Kind:
    """A liking, something with a time, or just so."""
    if _LIKES.search(content):
        return "preference"
    return "episode" if _HAPPENS.search(content) else "fact"


def _sentences(text: str) -> list[str]:
    """Split, without riders; "remember that …" stays whole."""
    found: list[str] = []
    plain = _SPACES.sub(" ", text.replace("\u2019", "'"))
    for sentence in _SENTENCE.split(plain):
        whole = sentence.strip()
        parts = [whole] if _ASKED_TO.match(_LEAD.sub("", whole)) else _RIDER.split(whole)
        found.extend(part.strip() for part in parts if part.strip())
    return found


def _statement(sentence: str) -> str | None:
    """The sentence as it should be kept, or nothing."""
    said = _LEAD.sub("", sentence).strip()
    if len(said) > MAX_CHARS:
        return None
    if asked := _ASKED_TO.match(said):
        return asked["what"].strip().rstrip("?").strip() or None
    if said.endswith("?") or len(said.split()) < MIN_WORDS or _QUESTION.match(said):
        return None
    if _TALK.match(said):
        return None
    about_me = _MINE.search(said) is not None and _DOES.match(said) is not None
    return said if about_me or _OTHERS.match(said) else None
