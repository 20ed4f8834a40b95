"""When something was, is or will be, from the words a person used for it.

Days are those of UTC: the person's own zone is not known here. Only English.
"""

from __future__ import annotations

import calendar
import datetime as dt
import re
from collections.abc import Callable
from typing import Literal

from sonia.types import Value

_MONTHS = {
    name.lower(): number
    for names in (calendar.month_name, calendar.month_abbr)
    for number, name in enumerate(names)
    if name
}
_DAYS = {name.lower(): number for number, name in enumerate(calendar.day_name)}
_SEASONS = {"spring": 3, "summer": 6, "autumn": 9, "fall": 9, "winter": 12}
_COUNTS = {
    **{"a": 1, "an": 1, "one": 1, "two": 2, "a couple of": 2, "three": 3, "a few": 3, "four": 4},
    **{"five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10},
}
_MONTH = "|".join(sorted(_MONTHS, key=len, reverse=True))
_DAY = "|".join(_DAYS)
_COUNT = r"\d{1,2}|" + "|".join(sorted(_COUNTS, key=len, reverse=True))
_UNIT = r"(?P<unit>day|week|month|year)s?"
_I = re.IGNORECASE


Grain = Literal["day", "month", "year"]


class When(Value):
    """A moment that was mentioned. `at` is the start of it; `start` and `end` where in the text.

    `relative` moments ("tomorrow") mean something else when read on another day. `grain` is how
    exactly it was said.
    """

    at: dt.datetime
    start: int
    end: int
    relative: bool
    grain: Grain = "day"


def when(text: str, said_at: dt.datetime) -> When | None:
    """The first moment that `text` mentions, as meant on the day it was said."""
    today = said_at.astimezone(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    past = _PAST.search(text) is not None
    for pattern, resolve, relative in _RULES:
        if found := pattern.search(text):
            try:
                at = resolve(found, today, past)
            except (ValueError, OverflowError):  # 31 June, or before the year 1
                continue
            return When(
                at=at,
                start=found.start(),
                end=found.end(),
                relative=relative,
                grain=_grain(found.groupdict()),
            )
    return None


def dated(text: str, said_at: dt.datetime) -> str:
    """`text` with the day written beside words that would mean another one tomorrow."""
    found = when(text, said_at)
    if found is None or not found.relative or not _VAGUE.search(text[found.start : found.end]):
        return text
    day = f"{found.at.day} " if found.grain == "day" else ""
    month = "" if found.grain == "year" else f"{calendar.month_name[found.at.month]} "
    return f"{text[: found.end]} ({day}{month}{found.at.year}){text[found.end :]}"


def _grain(parts: dict[str, str | None]) -> Grain:
    unit = (parts.get("unit") or "").lower()
    if unit == "year" or parts.get("season") or (parts.get("year") and not parts.get("month")):
        return "year"
    if unit in ("month", "week") or (parts.get("month") and not parts.get("dom")):
        return "month"
    return "day"


_PAST = re.compile(
    r"\b(?:was|were|had|did|went|met|bought|moved|saw|started|finished|adopted|lost|found|broke"
    r"|sold|got|quit|left|ate|ran|passed|failed|became|came|died|visited|walked|married|graduated"
    r"|since|ago|last|\w+ed)\b",
    _I,
)
_VAGUE = re.compile(r"\b(?:yesterday|today|tonight|tomorrow|this|next|last|on|ago)\b", _I)


def _ago(found: re.Match[str], today: dt.datetime, past: bool) -> dt.datetime:
    count = found["count"].lower()
    return _back(today, int(_COUNTS.get(count) or count), found["unit"].lower())


def _back(day: dt.datetime, count: int, unit: str) -> dt.datetime:
    if unit in ("day", "week"):
        return day - dt.timedelta(days=count * (7 if unit == "week" else 1))
    months = day.year * 12 + day.month - 1 - count * (12 if unit == "year" else 1)
    year, month = divmod(months, 12)
    last = calendar.monthrange(year, month + 1)[1]
    return day.replace(year=year, month=month + 1, day=min(day.day, last))


def _near(found: re.Match[str], today: dt.datetime, past: bool) -> dt.datetime:
    word = found["near"].lower()
    days = {"yesterday": -1, "last night": -1, "tomorrow": 1, "the day after tomorrow": 2}
    return today + dt.timedelta(days=days.get(word, 0))


def _unit(found: re.Match[str], today: dt.datetime, past: bool) -> dt.datetime:
    unit = found["unit"].lower()
    return _back(today, 1 if found["which"].lower() == "last" else -1, unit)


def _weekday(found: re.Match[str], today: dt.datetime, past: bool) -> dt.datetime:
    which = (found["which"] or "").lower()
    ahead = (_DAYS[found["day"].lower()] - today.weekday()) % 7
    if which == "last" or (past and which not in ("next", "this")):
        return today + dt.timedelta(days=ahead - 7)
    return today + dt.timedelta(days=ahead or 7)


def _season(found: re.Match[str], today: dt.datetime, past: bool) -> dt.datetime:
    start = today.replace(month=_SEASONS[found["season"].lower()], day=1)
    which = (found["which"] or "").lower()
    if which == "next" or (which == "this" and not past):
        return start if start > today else _back(start, -1, "year")
    return start if start < today else _back(start, 1, "year")


def _year(found: re.Match[str], today: dt.datetime, past: bool) -> dt.datetime:
    return today.replace(year=int(found["year"]), month=1, day=1)


def _date(found: re.Match[str], today: dt.datetime, past: bool) -> dt.datetime:
    """A month, with or without its day and its year."""
    parts = found.groupdict()
    month = _MONTHS[found["month"].lower()]
    day = int(parts.get("dom") or 1)
    if parts.get("year"):
        return today.replace(year=int(found["year"]), month=month, day=day)
    this_year = today.replace(month=month, day=day)
    which = (parts.get("which") or "").lower()
    if past or which in ("last", "since"):
        return this_year if this_year < today else this_year.replace(year=today.year - 1)
    return this_year if this_year >= today else this_year.replace(year=today.year + 1)


_Resolve = Callable[[re.Match[str], dt.datetime, bool], dt.datetime]
_YEAR = r"(?P<year>(?:19|20)\d\d)"
_WHICH = r"(?:(?P<which>last|next|this|since)\s+)?"
_RULES: tuple[tuple[re.Pattern[str], _Resolve, bool], ...] = tuple(
    (re.compile(pattern, _I), resolve, relative)
    for pattern, resolve, relative in (
        (rf"\b(?P<count>{_COUNT})\s+{_UNIT}\s+ago\b", _ago, True),
        (rf"(?<=\bfor )(?:the (?:last|past) )?(?P<count>{_COUNT})\s+{_UNIT}\b", _ago, True),
        (
            rf"\b(?P<dom>\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?(?P<month>{_MONTH})\b"
            rf"(?:,?\s+{_YEAR})?",
            _date,
            False,
        ),
        (
            rf"\b(?P<month>{_MONTH})\s+(?P<dom>\d{{1,2}})(?:st|nd|rd|th)?\b(?:,?\s+{_YEAR})?",
            _date,
            False,
        ),
        (rf"\b(?P<month>{_MONTH})\s+{_YEAR}\b", _date, False),
        (
            r"\b(?P<near>the day after tomorrow|yesterday|last night|today|tonight|tomorrow"
            r"|this (?:morning|afternoon|evening))\b",
            _near,
            True,
        ),
        (rf"\b(?P<which>last|next)\s+{_UNIT}\b", _unit, True),
        (rf"\b(?:on\s+)?{_WHICH}(?P<day>{_DAY})\b", _weekday, True),
        (rf"\b{_WHICH}(?P<season>spring|summer|autumn|fall|winter)\b", _season, True),
        (rf"\b(?:in|since|until|before|from|by)\s+{_YEAR}\b", _year, False),
        (rf"\b(?P<which>last|next|this)\s+(?P<month>{_MONTH})\b", _date, True),
        (rf"\b(?:in|since|before|by|from)\s+{_WHICH}(?P<month>{_MONTH})\b", _date, True),
    )
)
