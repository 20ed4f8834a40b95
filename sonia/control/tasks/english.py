"""Times in plain English: "every weekday at eight", "tomorrow at half past seven", "in an hour".

What is not understood wholly is not understood. An hour from one to twelve without "am", "pm" or
a part of the day is read on a clock of 24 hours, but for today: there it is the next of the two.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence

import msgspec

from sonia.control.tasks.interface import NotATime, Schedule

_TOKEN = re.compile(r"\d{4}-\d{2}-\d{2}|\d{1,2}[:.]\d{2}|\d+|[a-z]+(?:'[a-z]+)?|[^\sa-z\d]")
_WORD = re.compile(r"\S+")
_CRON = re.compile(r"[\d*/,a-z-]+(?:\s+[\d*/,a-z-]+){4}", re.IGNORECASE)
_ONES = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
    "nineteen",
)
_TENS = {"twenty": 20, "thirty": 30, "forty": 40, "fifty": 50}
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY_NAMES = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_UNITS_S = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400, "week": 604_800}
_ABBREVIATED = {"sec": "second", "min": "minute", "hr": "hour"}
_PARTS = {"morning": 8, "afternoon": 14, "evening": 19, "night": 21}
_OCCASIONS = {"day": "*", "weekday": "mon-fri", "weekend": "sat,sun"}
_USUAL = (9, 0)
_NOON = 12
_LONGEST = 14  # words that name a time


class Clock(msgspec.Struct, frozen=True):
    """An hour and minute; `loose` when it may be the one twelve hours later."""

    hour: int
    minute: int
    loose: bool = False


def read(text: str, now: dt.datetime, zone: dt.tzinfo) -> Schedule:
    """What `text` says and nothing else: words, cron or RFC 3339. Raises `NotATime`."""
    text = text.strip()
    if _CRON.fullmatch(text) and re.search(r"[\d*]", text.split()[0]):
        return Schedule(cron=text)
    try:
        return Schedule(at=dt.datetime.fromisoformat(text))
    except ValueError:
        pass
    found = _Reader(text, now.astimezone(zone)).whole()
    if found is None:
        raise NotATime(
            f"{text!r} names no time that is understood. Say it like 'every weekday at eight', "
            "'in 20 minutes', 'tomorrow at 17:30', or give cron or RFC 3339.",
            field="when",
        )
    return found


def split(text: str, now: dt.datetime, zone: dt.tzinfo) -> tuple[Schedule, str]:
    """The time at the beginning or the end of `text`, and the rest. Raises `NotATime`."""
    local = now.astimezone(zone)
    words = list(_WORD.finditer(text))
    for count in range(min(_LONGEST, len(words) - 1), 0, -1):
        cut = words[count - 1].end()
        if (found := _Reader(text[:cut], local).whole()) and (rest := _rest(text[cut:])):
            return found, rest
    for count in range(min(_LONGEST, len(words) - 1), 0, -1):
        cut = words[-count].start()
        if (found := _Reader(text[cut:], local).whole()) and (rest := _rest(text[:cut])):
            return found, rest
    raise NotATime(
        "No time is named at the beginning or the end. Say when: 'every weekday at eight, …', or "
        "give it as 'when'.",
        field="when",
    )


def _rest(text: str) -> str:
    return text.strip(" ,;:-—").removeprefix("please ").strip()


class _Reader:
    """Reads words from the front; every method takes all of what it names or nothing."""

    def __init__(self, text: str, local: dt.datetime) -> None:
        text = text.lower().replace("a.m.", "am").replace("p.m.", "pm").strip(" .,;:!?")
        text = re.sub(r"\bo'?clock\b", "oclock", text)
        text = re.sub(r"(\d)(?:st|nd|rd|th)\b", r"\1", text)
        tokens: Sequence[str] = _TOKEN.findall(re.sub(r"[,-](?=\s|[a-z])", " ", text))
        self._words = tuple(tokens)
        self._at = 0
        self._local = local

    def whole(self) -> Schedule | None:
        """What all of it says."""
        for way in (self._interval, self._repeated, self._later, self._once):
            self._at = 0
            found = way()
            if found and self._at == len(self._words):
                return found
        return None

    # --- again and again -----------------------------------------------------------------

    def _interval(self) -> Schedule | None:
        if self._take("hourly"):
            return Schedule(every_s=3600)
        if not self._take("every", "each"):
            return None
        count = 2 if self._take("other") else self._number()
        unit = self._unit()
        if unit is None or (count is None and unit in ("day", "week")):
            return None
        seconds = (1 if count is None else count) * _UNITS_S[unit]
        return Schedule(every_s=seconds) if seconds >= _UNITS_S["minute"] else None

    def _repeated(self) -> Schedule | None:
        clock = self._clock()
        days = self._occasion()
        if days is None:
            return None
        date, weekday, part = days
        clock = clock or self._clock() or Clock(*((part, 0) if part else _USUAL))
        return Schedule(cron=f"{clock.minute} {clock.hour} {date} * {weekday}")

    def _occasion(self) -> tuple[str, str, int | None] | None:
        """Day of the month, day of the week, and the hour that a part of the day stands for."""
        if self._take("daily"):
            return "*", "*", None
        if self._take("monthly") or self._phrase("every", "month"):
            self._take("on")
            self._take("the")
            date = self._number()
            return (str(date), "*", None) if date and 1 <= date <= 31 else None
        if self._phrase("weekly", "on") or self._take("every", "each"):
            for word, weekday in _OCCASIONS.items():
                if self._take(word):
                    return "*", weekday, None
            for word, hour in _PARTS.items():
                if self._take(word):
                    return "*", "*", hour
            days = self._weekdays(plural=False)
        else:
            self._take("on")
            for word in ("weekday", "weekend"):
                if self._take(word + "s"):
                    return "*", _OCCASIONS[word], None
            days = self._weekdays(plural=True)
        return ("*", ",".join(_DAYS[day] for day in days), None) if days else None

    def _weekdays(self, *, plural: bool) -> list[int]:
        days: list[int] = []
        while (day := self._weekday(plural=plural)) is not None:
            days.append(day)
            self._take("and", "&")
        return sorted(set(days))

    # --- once ----------------------------------------------------------------------------

    def _later(self) -> Schedule | None:
        if not self._take("in"):
            return None
        half = self._take("half") is not None
        count = self._number()
        if count is None and self._take("a", "an"):
            count = 1
        unit = self._unit()
        if count is None or unit is None:
            return None
        seconds = count * _UNITS_S[unit] / (2 if half else 1)
        return Schedule(at=self._local.astimezone(dt.UTC) + dt.timedelta(seconds=seconds))

    def _once(self) -> Schedule | None:
        clock = self._clock()
        named = self._day()
        if named is None and clock is None:
            return None
        days, part = named or (None, None)
        clock = clock or self._clock()
        if clock is None:
            if days == 0 and part is None:
                return None
            clock = Clock(*((part, 0) if part else _USUAL))
        elif part and part >= _NOON and clock.loose:
            clock = Clock(clock.hour % _NOON + _NOON, clock.minute)
        return Schedule(at=self._moment(days, clock).astimezone(dt.UTC))

    def _day(self) -> tuple[int, int | None] | None:
        """How many days from today, and the hour of a part of the day."""
        if self._take("tonight"):
            return 0, _PARTS["evening"]
        if self._take("today"):
            return 0, None
        if self._take("tomorrow"):
            return 1, self._part()
        mark = self._at
        if self._take("this") and (part := self._part()):
            return 0, part
        self._at = mark
        self._take("on", "next", "this")
        if (weekday := self._weekday(plural=False)) is not None:
            return (weekday - self._local.weekday() - 1) % 7 + 1, self._part()
        if self._words[self._at : self._at + 1] and "-" in self._words[self._at]:
            return self._date()
        self._at = mark
        return None

    def _date(self) -> tuple[int, None] | None:
        try:
            date = dt.date.fromisoformat(self._words[self._at])
        except ValueError:
            return None
        self._at += 1
        return (date - self._local.date()).days, None

    def _moment(self, days: int | None, clock: Clock) -> dt.datetime:
        """Without a day, the next time that the clock shows it."""
        day = self._local.date() + dt.timedelta(days=days or 0)
        found = dt.datetime.combine(day, dt.time(clock.hour, clock.minute), self._local.tzinfo)
        if not days and clock.loose and found <= self._local:
            later = found + dt.timedelta(hours=_NOON)
            found = later if later > self._local else found
        if days is None and found <= self._local:
            found += dt.timedelta(days=1)
        return found

    # --- words ---------------------------------------------------------------------------

    def _clock(self) -> Clock | None:
        mark = self._at
        sure = self._take("at", "by") is not None
        found = self._time(sure)
        if found is None:
            self._at = mark
        return found

    def _time(self, sure: bool) -> Clock | None:
        if self._take("noon", "midday"):
            return Clock(12, 0)
        if self._take("midnight"):
            return Clock(0, 0)
        hour, minute = self._hour()
        if hour is None:
            return None
        sure = self._take("oclock") is not None or sure or minute is not None
        half = self._take("am", "pm")
        part = self._part()
        if not (sure or half or part) and self._at < len(self._words):
            return None
        if half or part:
            if not 1 <= hour <= _NOON:
                return None
            afternoon = half == "pm" or (part or 0) >= _NOON
            return Clock(hour % _NOON + (_NOON if afternoon else 0), minute or 0)
        if hour > 23 or (minute or 0) > 59:
            return None
        return Clock(hour, minute or 0, loose=1 <= hour <= _NOON)

    def _hour(self) -> tuple[int | None, int | None]:
        for words, minute in ((("half", "past"), 30), (("quarter", "past"), 15)):
            if self._phrase(*words):
                return self._number(), minute
        if self._phrase("quarter", "to"):
            hour = self._number()
            return (None if hour is None else (hour - 1) % 24), 45
        word = self._words[self._at] if self._at < len(self._words) else ""
        if found := re.fullmatch(r"(\d{1,2})[:.](\d{2})", word):
            self._at += 1
            return int(found[1]), int(found[2])
        hour = self._number()
        return (hour, None) if hour is not None and hour <= 24 else (None, None)

    def _part(self) -> int | None:
        mark = self._at
        self._take("in", "at")
        self._take("the")
        for word, hour in _PARTS.items():
            if self._take(word):
                return hour
        self._at = mark
        return None

    def _number(self) -> int | None:
        word = self._words[self._at] if self._at < len(self._words) else ""
        if word.isdigit() and len(word) <= 6:
            self._at += 1
            return int(word)
        if word in _ONES:
            self._at += 1
            return _ONES.index(word)
        if word in _TENS:
            self._at += 1
            after = self._words[self._at] if self._at < len(self._words) else ""
            if after in _ONES[1:10]:
                self._at += 1
                return _TENS[word] + _ONES.index(after)
            return _TENS[word]
        return None

    def _unit(self) -> str | None:
        if self._at >= len(self._words):
            return None
        word = self._words[self._at].removesuffix("s")
        word = _ABBREVIATED.get(word, word)
        if word not in _UNITS_S:
            return None
        self._at += 1
        return word

    def _weekday(self, *, plural: bool) -> int | None:
        if self._at >= len(self._words):
            return None
        word = self._words[self._at]
        if plural and not word.endswith("s"):
            return None
        for name in (word, word.removesuffix("s")):
            for names in (_DAY_NAMES, _DAYS):
                if name in names:
                    self._at += 1
                    return names.index(name)
        return None

    def _phrase(self, *words: str) -> bool:
        if self._words[self._at : self._at + len(words)] != words:
            return False
        self._at += len(words)
        return True

    def _take(self, *options: str) -> str | None:
        if self._at < len(self._words) and self._words[self._at] in options:
            self._at += 1
            return self._words[self._at - 1]
        return None
