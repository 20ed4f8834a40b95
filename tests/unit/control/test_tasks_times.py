"""When a task is done: words, cron, and what comes next."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import pytest

from sonia.control.tasks import english
from sonia.control.tasks.interface import NotATime, Schedule
from sonia.control.tasks.schedule import check, following

ZONE = ZoneInfo("Europe/Berlin")
NOW = dt.datetime(2026, 3, 4, 15, 0, tzinfo=ZONE)  # a Wednesday


def local(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=ZONE)


@pytest.mark.parametrize(
    ("words", "cron"),
    [
        ("every weekday at eight", "0 8 * * mon-fri"),
        ("every day at 8:30", "30 8 * * *"),
        ("daily at noon", "0 12 * * *"),
        ("Every Monday and Thursday at 7pm", "0 19 * * mon,thu"),
        ("on tuesdays, thursdays and sundays at half past seven in the evening", None),
        ("on weekends at ten o'clock", "0 10 * * sat,sun"),
        ("at quarter to six every weekday", "45 5 * * mon-fri"),
        ("every morning", "0 8 * * *"),
        ("every month on the 1st at 9", "0 9 1 * *"),
        ("weekly on friday at 17:05", "5 17 * * fri"),
        ("0 8 * * 1-5", "0 8 * * 1-5"),
    ],
)
def test_words_that_repeat_are_cron(words: str, cron: str | None) -> None:
    found = english.read(words, NOW, ZONE)

    assert found.cron == (cron or "30 19 * * tue,thu,sun")


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        ("every 15 minutes", 900),
        ("every hour", 3600),
        ("hourly", 3600),
        ("every twenty-five mins", 1500),
        ("every other day", 172_800),
    ],
)
def test_words_that_count_are_an_interval(words: str, seconds: int) -> None:
    assert english.read(words, NOW, ZONE).every_s == seconds


@pytest.mark.parametrize(
    ("words", "moment"),
    [
        ("in 20 minutes", "2026-03-04T15:20"),
        ("in half an hour", "2026-03-04T15:30"),
        ("in an hour", "2026-03-04T16:00"),
        ("at eight", "2026-03-04T20:00"),
        ("at 8am", "2026-03-05T08:00"),
        ("at 16:45", "2026-03-04T16:45"),
        ("at 14:00", "2026-03-05T14:00"),
        ("tonight at eleven", "2026-03-04T23:00"),
        ("tonight", "2026-03-04T19:00"),
        ("today at 5", "2026-03-04T17:00"),
        ("tomorrow", "2026-03-05T09:00"),
        ("tomorrow at eight", "2026-03-05T08:00"),
        ("tomorrow evening at half past seven", "2026-03-05T19:30"),
        ("on friday at 9.15 a.m.", "2026-03-06T09:15"),
        ("next wednesday at noon", "2026-03-11T12:00"),
        ("2026-12-24 at 18:00", "2026-12-24T18:00"),
        ("2026-12-24T18:00", "2026-12-24T18:00"),
        ("this evening", "2026-03-04T19:00"),
    ],
)
def test_words_for_one_moment_are_that_moment(words: str, moment: str) -> None:
    found = check(english.read(words, NOW, ZONE), NOW, ZONE)

    assert found.at == local(moment)


@pytest.mark.parametrize(
    "words",
    ["", "soon", "at 25:00", "every", "every second", "in a while", "eight apples",
     "at eight or so", "every day at", "61 8 * * *",
     "0 8 31 2 *", "yesterday at nine", "2020-01-01 at 8"],
)  # fmt: skip
def test_what_names_no_time_to_come_is_refused(words: str) -> None:
    with pytest.raises(NotATime):
        check(english.read(words, NOW, ZONE), NOW, ZONE)


@pytest.mark.parametrize(
    ("text", "rest", "schedule"),
    [
        (
            "Every weekday at eight, read me my notes",
            "read me my notes",
            Schedule(cron="0 8 * * mon-fri"),
        ),
        ("water the plants every 3 days", "water the plants", Schedule(every_s=259_200)),
        ("call Ana in 10 minutes", "call Ana", Schedule(at=local("2026-03-04T15:10"))),
        ("Tomorrow at 9: two eggs at lunch", "two eggs at lunch", None),
    ],
)
def test_the_time_is_found_beside_what_is_wanted(
    text: str, rest: str, schedule: Schedule | None
) -> None:
    found, wanted = english.split(text, NOW, ZONE)

    assert wanted == rest
    assert found == (schedule or Schedule(at=local("2026-03-05T09:00")))


def test_cron_counts_its_days_from_sunday() -> None:
    sundays = [following(Schedule(cron=f"0 8 * * {day}"), NOW, ZONE) for day in ("0", "7", "sun")]
    workdays = following(Schedule(cron="0 8 * * 1-5"), local("2026-03-06T09:00"), ZONE)

    assert set(sundays) == {local("2026-03-08T08:00")}
    assert workdays == local("2026-03-09T08:00")


def test_eight_stays_eight_when_the_clocks_change() -> None:
    before = following(Schedule(cron="0 8 * * *"), local("2026-03-28T07:00"), ZONE)
    assert before is not None

    after = following(Schedule(cron="0 8 * * *"), before, ZONE)

    assert after is not None
    assert after - before == dt.timedelta(hours=23)
    assert after.astimezone(ZONE).hour == 8


def test_what_is_due_now_comes_again_later_not_now() -> None:
    at_eight = local("2026-03-05T08:00")

    assert following(Schedule(cron="0 8 * * *"), at_eight, ZONE) == local("2026-03-06T08:00")
    assert following(Schedule(at=at_eight), at_eight, ZONE) is None


def test_a_schedule_says_exactly_one_thing() -> None:
    for wrong in (Schedule(), Schedule(every_s=60, cron="0 8 * * *"), Schedule(cron="0 8 * *")):
        with pytest.raises(NotATime):
            check(wrong, NOW, ZONE)
