"""From what a person said to plain sentences, each judged by itself.

Abbreviations don't end a sentence, a question or request that rides on a statement is cut off,
and what only leads in ("Thanks. By the way, …") is taken away.
"""

from __future__ import annotations

import re

_I = re.IGNORECASE

# A question or a request that rides on a statement: "My name is Sam, can you help me?"
_RIDER = re.compile(
    r"[,;]?\s+(?:and |but |so )?(?=(?:can|could|would|will) you\b|please\b|tell me\b"
    r"|(?:what|where|how|when|which)(?:'s| is| are| do| does| did| should| can| much| many)\b)",
    _I,
)
_SPACES = re.compile(r"[^\S\n]+")
_SENTENCE = re.compile(
    r"(?<=[.!?…])(?<!\bDr\.)(?<!\bMr\.)(?<!\bMs\.)(?<!\bMrs\.)(?<!\bSt\.)(?<!\bProf\.)"
    r"(?<!\be\.g\.)(?<!\bi\.e\.)(?<!\b[A-Z]\.)[\"')\]]*\s+|\n+"
)
_LEAD = re.compile(
    r"^(?:(?:oh|well|so|ok|okay|yes|yeah|yep|no|nope|hey|hi|hello|hiya|and|but|also|actually"
    r"|by the way|btw|um|uh|sonia|good (?:morning|evening|afternoon|night)|thanks|thank you"
    r"|sorry|right|listen|look|great|cool|sure|wait|hang on|correction|fyi|to be honest|honestly"
    r"|as i (?:said|mentioned)|for (?:future reference|the record|your information)"
    r"|just so you know|you should know(?: that)?|i (?:should|forgot to) (?:mention|say)(?: that)?"
    r"|i (?:meant|mean)(?: to say)?(?: that)?|(?:sorry,? )?i (?:misspoke|was wrong)"
    r"|i(?:'ve| have)? changed my mind|(?:that|this)(?:'s| is) (?:wrong|not right|incorrect)"
    r"|it(?:'s| is|'s not| is not| isn't)(?: not)? [\w' ]{1,30}(?=,)"
    r"|(?:these days|nowadays)(?=,? my\b))\b"
    r"[\s,!.;\-:—]*)+",
    _I,
)
# "Since I'm lactose intolerant, what can I …": the reason is worth keeping.
_REASON = re.compile(
    r"^(?:since|because|as|given that|seeing that)\s+(?P<what>(?:i|i'm|i've|my|we|we're|our)\b"
    r"[^,?]*),\s+\S",
    _I,
)
# "My dog is called Biscuit and I live in Lisbon": two statements, each clear by itself.
_BOTH = re.compile(
    r",?\s+(?:and|but)\s+(?=(?:i|we|my|our)\b(?:'(?:m|re|ve))?\s+(?!both|then|so)\w+(?:'s)? \S)", _I
)
_HANGS = re.compile(
    r"^(?:when|whenever|if|after|before|since|because|while|although|though|as|unless|until|once"
    r"|both|between|last|next|on|in|at)\b|\bused to\b|\bthat\b",
    _I,
)
_FORGET = re.compile(
    r"^(?:(?:can|could|would|will) you\s+)?(?:please\s+)?(?:forget|stop remembering|erase)"
    r"(?: the fact)? that (?P<what>(?:i|my|we|our)\b .+)$",
    _I,
)
_AS_A = re.compile(
    r"^as an? (?P<what>(?!joke|child|kid|result|remind|test|start|favou?r|bonus|gift|present|conse"
    r"|whole|rule|side|matter|beginner|follow|thank|last|first|next|general|quick|way|backup"
    r"|precaution|surprise|model|bot|assistant|user|customer|team)[\w\- ]{3,30}),\s",
    _I,
)


def plain(text: str) -> str:
    """Straight apostrophes and quotes, single spaces; lines stay lines."""
    straight = text.translate({0x2019: "'", 0x2018: "'", 0x201C: '"', 0x201D: '"'})
    return _SPACES.sub(" ", straight)


def sentences(text: str) -> list[str]:
    """Split plain text into sentences, in order, as they were said."""
    return [whole.strip() for whole in _SENTENCE.split(text) if whole.strip()]


def without_rider(sentence: str) -> list[str]:
    """The statement and what rode on it, apart."""
    if reason := _REASON.match(sentence):
        return [f"{reason['what'][0].upper()}{reason['what'][1:]}."]
    if role := _AS_A.match(sentence):
        article = "an" if role["what"][0].lower() in "aeiou" else "a"
        return [f"I am {article} {role['what']}."]
    return [part.strip() for part in _RIDER.split(sentence) if part.strip()]


def to_forget(text: str) -> list[str]:
    """Statements that the person asks to have forgotten: "Forget that I live in Porto."."""
    asked = (_FORGET.match(without_lead(one)) for one in sentences(plain(text)))
    return [found["what"].rstrip(" .!?") + "." for found in asked if found]


def apart(statement: str) -> list[str]:
    """Statements that are joined by "and" or "but", each with a capital and a full stop."""
    if '"' in statement or _HANGS.search(statement):
        return [statement]
    parts = _BOTH.split(statement)
    if min(len(part.split()) for part in parts) < 2:
        return [statement]
    last = len(parts) - 1
    return [
        f"{part[0].upper()}{part[1:]}" + ("" if n == last else ".") for n, part in enumerate(parts)
    ]


def without_lead(sentence: str) -> str:
    """The sentence from where it says something."""
    return _LEAD.sub("", sentence).strip()
