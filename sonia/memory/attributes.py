"""What a statement tells of whom: `lives_in` of me is Porto.

Two statements of one attribute can't both be true now: the newer one takes the older's place.
Attributes of which people have several (sisters, allergies) carry their value in the key, so
that they meet only what says the same. English, by rules; what fits none has no attribute.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec

from sonia.types import Value

MAX_KEY_CHARS = 160


class Attribute(Value):
    """`key` names it, `value` is what it is. With `ends`, that it is no longer so."""

    key: str
    value: str
    ends: bool = False


def attribute_of(content: str) -> Attribute | None:
    """The first attribute that the statement tells."""
    said = folded(_last_clause(content))
    days = " ".join(_BESIDE.findall(content))
    for pattern, make in _RULES:
        if (found := pattern.match(said)) and (attribute := make(found)) is not None:
            if len(attribute.key) > MAX_KEY_CHARS:
                return None
            return msgspec.structs.replace(attribute, value=f"{attribute.value}{days}")
    return None


def folded(content: str) -> str:
    """Lower case, contractions written out, fillers and punctuation away."""
    said = _BESIDE.sub("", content.casefold().replace("\u2019", "'"))
    for short, whole in _CONTRACTIONS:
        said = short.sub(whole, said)
    said = re.sub(r"\bnamed\b", "called", _ENDS.sub(" ", said))
    return " ".join(word for word in said.split() if not _FILLERS.fullmatch(word))


def said_words(content: str) -> frozenset[str]:
    """The words that carry what is said: equal for statements that differ in order or dress."""
    words = [*folded(content).split(), *_DAY.findall(" ".join(_BESIDE.findall(content)))]
    bare = [word.removesuffix("'s") for word in words if not _SMALL.fullmatch(word)]
    same = [_SAME.get(word, word) for word in bare]
    return frozenset(_stem(word) for word in same)


_DAY = re.compile(r"\w+")
_BESIDE = re.compile(r" \([^)]*\d{4}[^)]*\)")  # the day that was written beside "tomorrow"
_ENDS = re.compile(r"[.!?…,;:\"]+(?=\s|$)|\"|'(?=\s|$)|(?<=\s)'")
_CONTRACTIONS = tuple(
    (re.compile(short), whole)
    for short, whole in (
        (r"\b(i)(?:'?m)\b", r"\1 am"),
        (r"\b(we|they|you)'re\b", r"\1 are"),
        (r"\b(i|we|they|you)'ve\b", r"\1 have"),
        (r"\b(i|we|they|you)'ll\b", r"\1 will"),
        (r"\b(i|we)'d rather\b", r"\1 would rather"),
        (r"\bcan'?t\b", "cannot"),
        (r"\bwon't\b", "will not"),
        (r"\b(do|does|did|is|are|was|were|has|have|had)n'?t\b", r"\1 not"),
        (
            r"\b(name|number|birthday|dog|cat|he|she|that|it)'s (?=\S+$|on\b|in\b|called\b)",
            r"\1 is ",
        ),
        (r"\bno longer\b", "not"),
        (r"\bhave got\b", "have"),
    )
)
_FILLERS = re.compile(
    r"really|very|just|now|so|also|actually|please|currently|still|definitely|quite"
    r"|totally|these|days|nowadays|again|then|well|finally|recently|usually"
)
_SAME = {"we": "i", "our": "my", "are": "am", "working": "work", "living": "live"}
_SMALL = re.compile(r"a|an|the|on|at|is|am|of|to|in|that|and")
_SEVERAL = re.compile(
    r"brother|sister|friend|cousin|neighbour|neighbor|colleague|son|daughter|uncle"
    r"|aunt|child|kid|niece|nephew|student|grandson|granddaughter|teacher"
)
_SUBJECT = r"(?P<who>i|we|(?:my|our) \w+(?:'s \w+)?|(?!the |it |that |this |there )[a-z]\w+)"
_ROLES = (
    r"boss|manager|doctor|gp|dentist|therapist|husband|wife|partner|girlfriend|boyfriend|landlord"
    r"|landlady|cardiologist|accountant|lawyer|vet|hairdresser"
)
_SINGLE = (
    r"birthday|anniversary|(?:tele)?phone number|number|mobile number|email(?: address)?|address"
    r"|shoe size|size|height|weight|blood type|wifi password|password|wifi network|pin|number plate"
    r"|license plate|locker|room|salary|pronouns|postcode|zip code|nickname|surname|last name|job"
    r"|first name|middle name|alarm code|gate code|door code|door number|code|age|hometown"
    rf"|star sign|time zone|car|bike|laptop|phone|{_ROLES}|(?:wifi|router|safe) \w+"
    r"|\w+ (?:code|password|pin)"
)
_EVENTS = (
    r"(?:\w+ )?(?:appointment|meeting|exam|interview|party|wedding|deadline|test|check-?up|lesson"
    r"|surgery|operation)|(?:flight|train|bus|trip)(?: (?:to|back|from)(?: \w+)?)?"
)
_TIME = r"(?:on|at|next|tomorrow|today|in|this)\b"
_CUT = re.compile(
    r" (?:any ?more|because|since|when|every|on (?:mon|tues|wednes|thurs|fri|satur|sun)|in the"
    r"|with|and|but|for (?:a|my|the|\d)|at (?:home|work)|a lot|so much|too|as well)\b.*$"
)


def _stem(word: str) -> str:
    """Without a plural's or a verb's ending; enough to meet itself."""
    for ending in ("ing", "es", "ed", "s"):
        if word.endswith(ending) and len(word) > len(ending) + 3:
            return word.removesuffix(ending)
    return word


def _last_clause(content: str) -> str:
    """Of "I used to live in Rome but now I live in Turin" what holds now."""
    parts = re.split(r"\b(?:but|and) (?:now )?(?=(?:I|we|my|our)\b)", content)
    return parts[-1] if re.match(r"(?i)\s*(?:i|we) used to\b", content) and parts[1:] else content


def _who(subject: str) -> str:
    words = subject.removeprefix("my ").removeprefix("our ")
    return "me" if subject in ("i", "we") else words


def _cut(value: str) -> str:
    words = _CUT.sub("", f" {value}").strip()
    return re.sub(r"^(?:an?|the|to|some) ", "", words)


def _simple(key: str) -> Callable[[re.Match[str]], Attribute | None]:
    """`key` of whoever is the subject; "not" before the verb ends it."""

    def make(found: re.Match[str]) -> Attribute | None:
        parts = found.groupdict()
        value = _cut(found["value"])
        ends = bool(parts.get("not")) or " anymore" in f" {found['value']}"
        who = _who(parts.get("who") or "i")
        return Attribute(key=f"{key}:{who}", value=value, ends=ends) if value else None

    return make


def _named(found: re.Match[str]) -> Attribute | None:
    what, value = found["what"], _cut(found["value"])
    if found["other"] or what in ("name",):
        return Attribute(key=f"name_of:{what}:{value}", value=value) if found["other"] else None
    if _SEVERAL.fullmatch(what):
        return Attribute(key=f"name_of:{what}:{value}", value=value)
    return Attribute(key=f"name_of:{what}", value=value)


def _mine(found: re.Match[str]) -> Attribute:
    return Attribute(key=f"my:{found['what']}", value=_cut(found["value"]))


def _prefers(found: re.Match[str]) -> Attribute:
    pair = sorted((_cut(found["value"]), _cut(found["other"])))
    return Attribute(
        key=f"prefers:{_who(found['who'])}:{'/'.join(pair)}", value=_cut(found["value"])
    )


def _likes(found: re.Match[str]) -> Attribute | None:
    verb, value = found["verb"], _liked(found["value"])
    against = bool(found["not"]) or verb in ("hate", "hates", "dislike", "dislikes", "cannot stand")
    if not value:
        return None
    return Attribute(key=f"likes:{_who(found['who'])}:{value}", value="no" if against else "yes")


def _eats(found: re.Match[str]) -> Attribute | None:
    value = _liked(found["value"])
    against = bool(found["not"])
    return Attribute(key=f"eats:{_who(found['who'])}:{value}", value="no" if against else "yes")


def _liked(value: str) -> str:
    return re.sub(r" (?:in|on|at|from|near|by|after|before|during|as|than) .*$", "", _cut(value))


def _counted(found: re.Match[str]) -> Attribute:
    what = found["what"].removesuffix("s")
    return Attribute(key=f"count:{_who(found['who'])}:{what}", value=found["value"])


def _several(key: str) -> Callable[[re.Match[str]], Attribute | None]:
    def make(found: re.Match[str]) -> Attribute | None:
        value = _liked(found["value"])
        return Attribute(key=f"{key}:{_who(found['who'])}:{value}", value=value)

    return make


def _marital(found: re.Match[str]) -> Attribute:
    return Attribute(key=f"marital:{_who(found['who'])}", value=found["value"])


_JOB = (
    r"(?:\w+ )?(?:nurse|paramedic|carpenter|doctor|lawyer|pilot|chef|cook|baker|plumber|farmer"
    r"|driver|programmer|developer|manager|accountant|architect|designer|writer|journalist|librarian"
    r"|musician|photographer|electrician|mechanic|barista|waiter|waitress|midwife|surgeon|vet"
    r"|(?:school )?teacher|professor|researcher|policeman|firefighter|translator|butcher|painter"
    r"|social worker|soldier|student|consultant|\w+ist|\w+eer)"
)
_DIET = r"(?:an? )?(?:vegetarian|vegan|pescatarian|omnivore|flexitarian)"
_NUMBER = r"\d+|one|two|three|four|five|six|seven|eight|nine|ten|no"
_RULES: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], Attribute | None]], ...] = tuple(
    (re.compile(pattern), make)
    for pattern, make in (
        (
            rf"^{_SUBJECT} (?:(?:do|does) )?(?P<not>not )?(?:lives?|am living|have been living"
            r"|have lived|am based|is based|is living|moved(?: back)?|relocated)"
            r" (?:in|to|near|at) (?P<value>.+)$",
            _simple("lives_in"),
        ),
        (
            rf"^{_SUBJECT} (?:(?:do|does) )?(?P<not>not )?(?:works?|am working|is working"
            r"|(?:have )?(?:started|got|have|has)(?: working| an? (?:new )?job| work)) (?:at|for) "
            r"(?P<value>.+)$",
            _simple("works_at"),
        ),
        (rf"^{_SUBJECT} works? as (?P<value>.+)$", _simple("job")),
        (rf"^(?P<who>i) am an? (?P<value>{_JOB})$", _simple("job")),
        (rf"^{_SUBJECT} (?:am|are|is)(?P<not> not)? (?P<value>{_DIET})\b", _simple("diet")),
        (
            rf"^{_SUBJECT} (?:am|are|is|got) (?P<value>single|married|divorced|engaged|widowed)\b",
            _marital,
        ),
        (r"^(?P<who>i) (?:am|turn(?:ed)?) (?P<value>\d{1,3})(?: years old)?$", _simple("age")),
        (rf"^{_SUBJECT} (?:was|were) born in (?P<value>.+)$", _simple("born_in")),
        (rf"^{_SUBJECT} (?:am|is|are|come|comes) from (?P<value>.+)$", _simple("from")),
        (rf"^{_SUBJECT} drives? (?P<value>.+)$", _simple("drives")),
        (
            r"^(?:my|our) favou?rite (?P<what>\w+(?: \w+)?) is (?P<value>.+)$",
            lambda found: Attribute(key=f"favourite:{found['what']}", value=_cut(found["value"])),
        ),
        (
            r"^(?P<value>.+) is my favou?rite (?P<what>\w+(?: \w+)?)$",
            lambda found: Attribute(key=f"favourite:{found['what']}", value=_cut(found["value"])),
        ),
        (
            r"^(?P<who>my) name is (?P<value>.+)$",
            lambda f: Attribute(key="my:name", value=f["value"]),
        ),
        (
            r"^(?:from on )?(?:call me|i would rather be called|i go by) (?P<value>[\w. \-]+?)"
            r"(?: from on)?$",
            lambda found: Attribute(key="my:called", value=found["value"]),
        ),
        (
            rf"^(?:my|our|the) (?:new |current |old )?(?P<what>{_EVENTS}) (?:is|are|leaves|starts) "
            rf"(?P<value>{_TIME}.*|\d.*|(?:mon|tues|wednes|thurs|fri|satur|sun)day.*)$",
            _mine,
        ),
        (
            rf"^i have an? (?P<what>{_EVENTS}) (?P<value>{_TIME}.*)$",
            _mine,
        ),
        (
            rf"^(?:my|our|the) (?:new |current )?(?P<what>{_SINGLE})(?:'s name)? (?:is|are|ends in)"
            r"(?: on| at| in| called| number| named)?"
            r"(?! ill\b| sick\b| not\b| great\b| nice\b) (?P<value>.+)$",
            _mine,
        ),
        (rf"^(?P<value>.+) is (?:my|our) (?:new |current )?(?P<what>{_ROLES})$", _mine),
        (
            r"^(?:my|our|the) (?P<other>other |second |younger |older |third )?"
            r"(?:new )?(?P<what>\w+)(?:'s name is| name is| is called)"
            r" (?P<value>.+)$",
            _named,
        ),
        (
            rf"^(?P<other>)(?P<value>[\w. \-]+) is (?:my|our) "
            rf"(?P<what>{_SEVERAL.pattern}|dog|cat)$",
            _named,
        ),
        (rf"^{_SUBJECT} prefers? (?P<value>.+?) (?:to|over) (?P<other>.+)$", _prefers),
        (rf"^(?P<who>i|we) (?:have|own) (?P<value>{_NUMBER}) (?P<what>\w+)$", _counted),
        (
            rf"^{_SUBJECT} (?:(?:do|does) )?(?P<not>not )?(?P<verb>likes?|loves?|enjoys?|adores?"
            r"|hates?|dislikes?|cannot stand) (?P<value>.+)$",
            _likes,
        ),
        (
            rf"^{_SUBJECT} (?:(?:do|does) )?(?P<not>not |never |cannot )?"
            r"(?:eats?|drinks?|smokes?) (?P<value>.+)$",
            _eats,
        ),
        (rf"^{_SUBJECT} (?:am|is|are) allergic to (?P<value>.+)$", _several("allergic")),
        (rf"^{_SUBJECT} plays? (?P<value>.+)$", _several("plays")),
        (rf"^{_SUBJECT} speaks? (?P<value>.+)$", _several("speaks")),
    )
)
