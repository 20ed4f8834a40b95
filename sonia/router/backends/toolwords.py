"""Words without which nobody asks for a tool: what has none of them needs no choice.

Choosing (`toolpick.py`) takes a small model a fifth of a second on two cores, and in the middle of
small talk it sometimes takes a tool that nobody asked for. So what is surely conversation is
answered at once. "Surely" is in English, of the standard tools: another language, or a tool whose
requests are not known here, is always left to the choice.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sonia.types import Message, ToolSpec

_FILES = (
    r"files?|folders?|director(?:y|ies)|documents?|notes?|workspace|lists?|listed|open|read|write|"
    r"sav(?:e|ed|ing)|stor(?:e|ed)|delet(?:e|ed|ing)|remov(?:e|ed|ing)|trash|throw|"
    r"rid|eras(?:e|ed)|discard|bin|creat(?:e|ed)|make|put|append|add|replace|chang(?:e|ed)|edit|"
    r"searc(?:h|hes|hing)|find|found|look|mentions?|mentioned|show|contents?|contains?|says?|"
    r"textfile|pdfs?|csv|json|txt|markdown|path|copy|rename|move|have i|do i have|jot|log"
)
_WEB = (
    r"web|websites?|sites?|pages?|urls?|https?|www|online|internet|google|search|look|browsers?|"
    r"browse|links?|download|fetch|news|weather|prices?|latest|current(?:ly)?|show|open|read|find|"
    r"address|dot com|flights?|opening|visit|go to"
)
_MACHINE = (
    r"time|clock|date|days?|weekday|year|month|hours?|monday|tuesday|wednesday|thursday|friday|"
    r"saturday|sunday|until|battery|charge[d]?|disks?|drive|memory|ram|cpus?|processors?|cores?|"
    r"computer|machine|laptop|pc|system|host|hostname|linux|kernel|windows|mac|uptime|gigabytes?|"
    r"gb|megabytes?|space|storage|version|name of this"
)
_PROGRAMS = (
    r"programs?|process(?:es)?|running|runs?|apps?|applications?|cpu|memory|ram|tasks?|started|"
    r"using|uses|software|open"
)
_NUMBERS = (
    r"\d+|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|\w+teen|twent(?:y|ies)|"
    r"thirty|forty|fifty|sixty|seventy|eighty|ninety|hundreds?|thousands?|millions?|billions?|"
    r"dozens?|half|quarter"
)
_SUMS = (
    r"plus|minus|times|divided|multipl\w+|subtract\w*|calculat\w+|comput(?:e|ation)|evaluate|"
    r"add(?:ed)?|sum|product|difference|percent(?:age)?|square[d]?|cubed?|roots?|power|factorial|"
    r"modulo|remainder|average|mean|logarithm|sine|cosine|maths?|arithmetic|equals?|how many|"
    r"how much|ratio|total|prime"
)
_WANTED_BY = {
    **dict.fromkeys(("file.read", "file.list", "file.write", "file.search", "file.delete"), _FILES),
    **dict.fromkeys(("web.fetch", "web.search", "browser.open"), _WEB),
    "system.info": _MACHINE,
    "process.list": _PROGRAMS,
    "notification.send": r"notif\w+|alerts?|remind\w*|messages?|desktop|pop-?up|banner|send|show",
    "shell.run": (
        r"run|runs|running|execut\w+|commands?|terminal|shell|bash|scripts?|git|npm|pip|python|"
        r"install|sudo|console|compile|build|tests?"
    ),
}
# A name such as notes.txt, an address, or a path: no conversation, whatever the words.
_PLACE = re.compile(r"\w\.[a-z]\w{0,4}\b|\w/|/\w|\\|`|\bdot [a-z]{2,4}\b|@")
_SUM = re.compile(rf"\d\s*[-+*/^%=]|[=^√]|\b(?:{_SUMS})\b")
_NUMBER = re.compile(rf"\b(?:{_NUMBERS})\b")
# What may mean something said before.
_REFERS = re.compile(
    r"\b(?:it|its|that|them|this|these|those|they|again|yes|yeah|ok|okay|sure|please|do|one|ones|"
    r"same|there|instead|go|ahead|other|next|more|first|second|last|and|also|no|not)\b"
)
_ENGLISH = re.compile(
    r"\b(?:the|what|what's|how|who|why|which|where|when|you|your|my|i'm|am|are|does|did|do|tell|"
    r"please|good|thank|thanks|hello|would|should|could|can|this|that|with|have|has|it|it's|of|"
    r"and|is|to|he|she|they|we|i (?:live|work|like|love|feel|think|need|want|was|will))\b"
)


def may_want(tools: Sequence[ToolSpec], messages: Sequence[Message]) -> bool:
    """Whether the last of `messages` may ask for one of the tools; True when in doubt."""
    said = [
        message.content.lower() for message in messages if message.role in ("user", "assistant")
    ]
    if not said or not said[-1].isascii() or not _ENGLISH.search(said[-1]):
        return True
    if any(tool.name not in _WANTED_BY and tool.name != "math.evaluate" for tool in tools):
        return True
    meant = said[-3:] if _REFERS.search(said[-1]) and len(said[-1].split()) <= 6 else said[-1:]
    return any(_PLACE.search(text) or _names_one(tools, text) for text in meant)


def _names_one(tools: Sequence[ToolSpec], text: str) -> bool:
    names = {tool.name for tool in tools}
    if "math.evaluate" in names and _is_sum(text):
        return True
    patterns = {_WANTED_BY[name] for name in names if name in _WANTED_BY}
    return any(re.search(rf"\b(?:{pattern})\b", text) for pattern in patterns)


def _is_sum(text: str) -> bool:
    numbers = len(_NUMBER.findall(text))
    return numbers > 1 or (bool(_SUM.search(text)) and (numbers > 0 or "how m" not in text))
