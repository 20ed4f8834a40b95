"""When the next time is. Pure but for the time zone, which is given."""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING, Any

import msgspec

from sonia.control.tasks.interface import NotATime, Schedule

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat", "sun")
_FIELDS = 5


def local_zone() -> ZoneInfo:
    """This machine's time zone. Reads files."""
    from tzlocal import get_localzone

    return get_localzone()


def check(schedule: Schedule, now: dt.datetime, zone: dt.tzinfo) -> Schedule:
    """The same with its moment in UTC. Raises `NotATime` for one that never comes."""
    given = [schedule.at, schedule.every_s, schedule.cron]
    if sum(value is not None for value in given) != 1:
        raise NotATime("Give exactly one of at, every_s and cron.", field="when")
    if schedule.at is not None:
        at = schedule.at if schedule.at.tzinfo else schedule.at.replace(tzinfo=zone)
        schedule = msgspec.structs.replace(schedule, at=at.astimezone(dt.UTC))
    if following(schedule, now, zone) is None:
        raise NotATime("That moment is over, or never comes.", field="when")
    return schedule


def following(schedule: Schedule, now: dt.datetime, zone: dt.tzinfo) -> dt.datetime | None:
    """The first time after `now`, in UTC; None when there is none. Raises `NotATime`."""
    if schedule.at is not None:
        return schedule.at if schedule.at > now else None
    if schedule.every_s is not None:
        return now + dt.timedelta(seconds=schedule.every_s)
    found = _trigger(schedule.cron or "", zone).get_next_fire_time(None, _after(now, zone))
    return found.astimezone(dt.UTC) if found else None


def _after(now: dt.datetime, zone: dt.tzinfo) -> dt.datetime:
    """The trigger's "from now on" includes now itself."""
    return (now + dt.timedelta(microseconds=1)).astimezone(zone)


def _trigger(cron: str, zone: dt.tzinfo) -> Any:
    from apscheduler.triggers.cron import CronTrigger

    fields = cron.split()
    if len(fields) != _FIELDS:
        raise NotATime(
            f"{cron!r} has {len(fields)} fields. Cron has five: minute hour day month weekday.",
            field="when",
        )
    minute, hour, day, month, weekday = fields
    try:
        return CronTrigger(
            minute=minute,
            hour=hour,
            day=day,
            month=month.lower(),
            day_of_week=_named(weekday),
            timezone=zone,
        )
    except (ValueError, TypeError, KeyError) as error:
        raise NotATime(f"{cron!r} is not cron: {error}.", field="when") from error


def _named(weekday: str) -> str:
    """Cron counts from Sunday, APScheduler from Monday: names are the same for both."""
    parts: list[str] = []
    for part in weekday.lower().split(","):
        span, slash, step = part.partition("/")
        first, dash, last = span.partition("-")
        if dash and first.isdigit() and last.isdigit():
            days = range(int(first), int(last) + 1, int(step) if slash else 1)
            parts.extend(_DAYS[day] for day in days if day < len(_DAYS))
        else:
            parts.append(
                re.sub(r"^[0-7]$", lambda found: _DAYS[int(found[0])], span) + slash + step
            )
    return ",".join(parts)
