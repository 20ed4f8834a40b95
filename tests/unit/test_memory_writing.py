"""Which of a person's words become memories."""

from __future__ import annotations

import datetime as dt

import pytest

from sonia.memory.writing import kind_of, worth_keeping

WORTH = (
    "My daughter Lena starts school in September.",
    "I'm vegetarian.",
    "I was born in Porto in 1984.",
    "we have a cottage near the lake",
    "I hate early meetings.",
    "My favourite colour is green.",
    "I've been learning Dutch for two years.",
    "Our neighbours are called Tom and Iris.",
    "My doctor's appointment is on Thursday at 10.",
    "I work night shifts at the hospital.",
    "Yesterday I broke my glasses.",
    "We got married in 2015.",
    "I can't eat gluten.",
    "My mother lives with us.",
    "I'd rather have decaf after lunch.",
    "Remember that the plumber comes on Friday.",
    "Please remember my car is parked on level 3.",
    "Don't forget that Oma turns ninety next week.",
    "Keep in mind I only have an electric oven.",
    "Note: the alarm code is 8812.",
    "Nina is my boss.",
    "The cat's name is Pixel.",
    "Marek works with me in accounting.",
    "I usually walk to the office.",
    "I drive an old Volvo.",
    "my phone number ends in 42",
    "Hello! I'm Priya and I live in Leeds.",
    "Thanks. By the way, I moved my desk to the attic.",
    "I play the cello in an orchestra.",
    "On weekends we go climbing.",
    "I'm training for a marathon, can you suggest a schedule?",
    "I need glasses for reading.",
    "I never drink alcohol.",
    "My landlord wants to sell the flat.",
    "We are expecting our second child.",
)

NOT_WORTH = (
    "What's the weather tomorrow?",
    "what is my favourite colour",
    "Do I have any appointments on Friday?",
    "Open the report and read me the summary.",
    "List the files in my workspace.",
    "Could you tell me a joke?",
    "Write an email to my boss.",
    "Calculate 17 times 23.",
    "Hello!",
    "Good morning, Sonia.",
    "Thank you so much.",
    "Okay, sounds good.",
    "Yes.",
    "No, not that one.",
    "I don't know.",
    "I think so.",
    "I see what you mean.",
    "I want you to delete that file.",
    "I'd like to know how tall the Eiffel tower is.",
    "I have a question.",
    "I'm not sure about that.",
    "Let's try something else.",
    "Tell me about my meetings.",
    "Play my favourite song.",
    "How do I get to the station?",
    "That's wrong.",
    "It is raining again.",
    "You are very helpful.",
    "Where did I put my keys?",
    "Is my dog old",
    "Stop.",
    "Summarise my notes from yesterday.",
    "Hmm, interesting.",
    "Can you remember what my name is?",
    "",
    "   ",
    "🙂",
)


def test_statements_are_kept_and_talk_is_not() -> None:
    kept = [text for text in WORTH if worth_keeping(text)]
    wrong = [text for text in NOT_WORTH if worth_keeping(text)]
    precision = len(kept) / (len(kept) + len(wrong))
    recall = len(kept) / len(WORTH)

    print(f"precision {precision:.3f}, recall {recall:.3f}, of {len(WORTH) + len(NOT_WORTH)}")
    print("missed", sorted(set(WORTH) - set(kept)), "wrongly kept", wrong)
    assert precision >= 0.9
    assert recall >= 0.85


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("remember that the spare key is under the pot", "the spare key is under the pot"),
        ("Can you remember that my locker is 17?", "my locker is 17"),
        ("My name is Sam, can you help me with a poem?", "My name is Sam"),
        ("Hi Sonia, I'm allergic to nuts!", "I'm allergic to nuts!"),
    ],
)
def test_only_the_statement_is_kept(said: str, kept: str) -> None:
    assert [item.content for item in worth_keeping(said)] == [kept]


def test_a_sentence_about_the_same_stays_with_it() -> None:
    kept = worth_keeping("My dog is called Biscuit. He is a labrador. What shall I feed him?")

    assert [item.content for item in kept] == ["My dog is called Biscuit. He is a labrador."]


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("I love hiking", "preference"),
        ("My favourite tea is oolong", "preference"),
        ("We visited Ghent in May", "episode"),
        ("We moved to Ghent in May", "fact"),
        ("I have a dentist appointment on Thursday", "task"),
        ("Yesterday I met Ann", "episode"),
        ("I'm allergic to nuts", "fact"),
        ("My dog is called Biscuit", "fact"),
    ],
)
def test_a_memory_has_the_kind_of_what_it_says(said: str, kind: str) -> None:
    assert kind_of(said) == kind


def test_pasted_text_is_not_what_somebody_said() -> None:
    assert worth_keeping("My dog is called Biscuit. " * 2000) == ()


SAID_AT = dt.datetime(2026, 11, 25, 20, tzinfo=dt.UTC)  # a Wednesday


@pytest.mark.parametrize(
    ("said", "since"),
    [
        ("I've been living in Lyon since last May.", dt.datetime(2026, 5, 1, tzinfo=dt.UTC)),
        ("I quit smoking three years ago.", dt.datetime(2023, 11, 25, tzinfo=dt.UTC)),
        ("I moved to Berlin in 2019.", dt.datetime(2019, 1, 1, tzinfo=dt.UTC)),
        ("I ran my first marathon yesterday.", dt.datetime(2026, 11, 24, tzinfo=dt.UTC)),
        ("My exam is next Friday.", None),
        ("My dog is called Biscuit.", None),
    ],
)
def test_a_memory_holds_since_the_day_its_words_tell(said: str, since: dt.datetime | None) -> None:
    (kept,) = worth_keeping(said, SAID_AT)

    assert kept.valid_from == since


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (
            "I have a dentist appointment tomorrow at nine.",
            "I have a dentist appointment tomorrow (26 November 2026) at nine.",
        ),
        ("I moved to Berlin in 2019.", "I moved to Berlin in 2019."),
        ("We met on 31 June.", "We met on 31 June."),
        ("Remind me to water the plants.", "I need to water the plants."),
        ("Since I'm lactose intolerant, what can I eat?", "I'm lactose intolerant."),
        ("As a vegetarian, what should I order?", "I am a vegetarian."),
        ("My therapist is called Dr. Lindqvist.", "My therapist is called Dr. Lindqvist."),
        ("No, actually I live in Porto.", "I live in Porto."),
    ],
)
def test_what_is_kept_can_be_read_on_another_day(said: str, kept: str) -> None:
    assert [item.content for item in worth_keeping(said, SAID_AT)] == [kept]


@pytest.mark.parametrize(
    "said",
    [
        "If I lived in Japan, I would eat sushi every day.",
        'He said "I live in Paris".',
        "The letter says: I am the owner of a gold mine.",
        "Yeah right, I'm made of money.",
        "I might buy a boat one day.",
        "Paris is the capital of France.",
        "Play my favourite song.",
        "def my_function(x): return x + 1",
    ],
)
def test_what_is_supposed_quoted_mocked_or_pasted_is_not_kept(said: str) -> None:
    assert worth_keeping(said, SAID_AT) == ()


def test_what_was_asked_for_or_could_hurt_weighs_more() -> None:
    asked, vital, plain = (
        worth_keeping(said)[0].importance
        for said in ("Remember that the safe is blue.", "I'm allergic to nuts.", "I have a boat.")
    )

    assert asked == vital > plain


@pytest.mark.parametrize("text", ["my " * 6000, "I said " * 2800, "a" * 20_000, "I'm " * 5000])
def test_hostile_repetition_is_judged_and_done(text: str) -> None:
    assert worth_keeping(text) == ()


def test_statements_joined_by_and_are_kept_one_by_one() -> None:
    said = "My dog is called Biscuit and I live in Lisbon."

    assert [kept.content for kept in worth_keeping(said)] == [
        "My dog is called Biscuit.",
        "I live in Lisbon.",
    ]


@pytest.mark.parametrize(
    "said",
    [
        "I used to live in Rome and I loved it there.",
        "When I was ten we moved to Cork and I hated it.",
        "My aunt and my uncle live in Faro.",
        "I have a brother and my brother has a boat that I like and I sail.",
    ],
)
def test_what_hangs_together_is_not_taken_apart(said: str) -> None:
    assert len(worth_keeping(said)) <= 1


@pytest.mark.parametrize(
    "said",
    [
        "I get an error in line 40.",
        "My hero in the story is called Arlo.",
        "I'd be lost without you.",
        "I'm making dinner right now.",
        "I need three synonyms for happy.",
    ],
)
def test_what_is_at_hand_or_of_the_moment_is_not_kept(said: str) -> None:
    assert worth_keeping(said) == ()


def test_last_may_is_when_it_began() -> None:
    said_at = dt.datetime(2026, 11, 26, 12, tzinfo=dt.UTC)

    (kept,) = worth_keeping("I moved to Porto last May.", said_at)

    assert kept.valid_from == dt.datetime(2026, 5, 1, tzinfo=dt.UTC)
    assert kept.content == "I moved to Porto last May (May 2026)."
