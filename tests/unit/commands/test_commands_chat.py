"""Talking to the server: answers as they come, one session, consent, interruption."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sonia.__main__ import main
from sonia.commands import chat
from sonia.commands.chat import Conversation
from sonia.commands.server import Server
from sonia.config import load

from .conftest import TOKEN, Handler, StandIn

Capture = pytest.CaptureFixture[str]
PATIENCE_S = 100
ASKED: dict[str, Any] = {
    "approval_id": "appr_1",
    "action_id": "act_1",
    "tool": "shell.run",
    "preview": "rm \u202etxt.exe\nsecond line \x1b[2J",
    "risk_tier": 2,
    "expires_at": "2026-02-08T09:30:00.000Z",
}


def needs_consent(stand_in: StandIn) -> list[tuple[str, str | None]]:
    """Let chats ask for consent and wait for it; returns what was answered, and with what."""
    settled = threading.Event()
    stand_in.at_end(settled.set)
    answers: list[tuple[str, str | None]] = []

    def talk(handler: Handler, body: Any) -> None:
        handler.begin_events()
        handler.event("turn.started", session_id="ses_1")
        handler.event("tool.call", name="shell.run", arguments={"command": "rm x"})
        handler.event("approval.required", **ASKED)
        settled.wait()
        if not answers:  # the test is over
            handler.close_connection = True
            return
        handler.event("tool.result", name="shell.run", status=answers[0][0], result=None)
        handler.event("response.delta", text="So be it.")
        handler.event("response.done", data={})
        handler.end_events()

    def settle(verb: str) -> Callable[[Handler, Any], None]:
        def answer(handler: Handler, body: Any) -> None:
            answers.append((verb, handler.headers.get("Authorization")))
            handler.data({"id": "appr_1", "state": verb})
            settled.set()

        return answer

    stand_in.answers["POST /v1/chat"] = talk
    for verb in ("approve", "deny"):
        stand_in.answers[f"POST /v1/approvals/appr_1/{verb}"] = settle(verb)
    return answers


def bodies(stand_in: StandIn) -> list[Any]:
    return [body for _, path, body, _ in stand_in.asked if path == "/v1/chat"]


def test_the_answer_is_printed_whole(stand_in: StandIn, capsys: Capture) -> None:
    stand_in.says("It is ", "Paris", " ☕.")

    assert main(["chat", "What is the", "capital?"]) == 0

    assert capsys.readouterr().out == "It is Paris ☕.\n"
    assert bodies(stand_in) == [{"text": "What is the capital?"}]
    assert stand_in.asked[-1][3]["Accept"] == "text/event-stream"


def test_an_earlier_session_can_be_continued(stand_in: StandIn) -> None:
    stand_in.says("Yes.")

    main(["chat", "--session", "ses_old", "Still there?"])

    assert bodies(stand_in) == [{"text": "Still there?", "session_id": "ses_old"}]


def test_lines_from_a_pipe_are_messages_of_one_session(
    stand_in: StandIn, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in.says("Yes.", session_id="ses_made")
    monkeypatch.setattr(sys, "stdin", io.StringIO("one\n\n  two \n"))

    assert main(["chat"]) == 0

    assert bodies(stand_in) == [{"text": "one"}, {"text": "two", "session_id": "ses_made"}]
    assert capsys.readouterr().out == "Yes.\nYes.\n"


def test_what_a_model_says_can_not_command_the_terminal(stand_in: StandIn, capsys: Capture) -> None:
    stand_in.says("red \x1b[31m", "bell \x07 ", "order \u202e", "日本語 👩\u200d💻\tok")

    main(["chat", "x"])

    said = capsys.readouterr().out
    assert said == "red \\x1b[31mbell \\x07 order \\u202e日本語 👩\u200d💻\tok\n"


def test_an_error_of_the_turn_is_one_clear_line(stand_in: StandIn, capsys: Capture) -> None:
    def talk(handler: Handler, body: Any) -> None:
        handler.begin_events()
        handler.event("response.delta", text="Well")
        handler.event("error", error={"code": "unavailable", "message": "The model is loading."})
        handler.end_events()

    stand_in.answers["POST /v1/chat"] = talk

    assert main(["chat", "x"]) == 1

    captured = capsys.readouterr()
    assert captured.out == "Well\n"
    assert captured.err == "sonia: The model is loading.\n"


def test_a_refused_message_is_one_clear_line(stand_in: StandIn, capsys: Capture) -> None:
    stand_in.answers["POST /v1/chat"] = lambda handler, _: handler.failure(
        400, "invalid_request", "text: too long."
    )

    assert main(["chat", "x"]) == 1
    assert capsys.readouterr().err == "sonia: text: too long.\n"


def test_a_server_that_goes_away_half_way_is_told(stand_in: StandIn, capsys: Capture) -> None:
    def talk(handler: Handler, body: Any) -> None:
        handler.begin_events()
        handler.event("response.delta", text="Half a")
        handler.close_connection = True

    stand_in.answers["POST /v1/chat"] = talk

    assert main(["chat", "x"]) == 1

    captured = capsys.readouterr()
    assert captured.out == "Half a\n"
    assert "sonia: " in captured.err


def test_another_program_on_the_port_is_not_believed(stand_in: StandIn, capsys: Capture) -> None:
    stand_in.answers["POST /v1/chat"] = lambda handler, _: handler.json(403, ["go away"])

    assert main(["chat", "x"]) == 1
    assert "not Sonia's" in capsys.readouterr().err


def test_one_bad_line_of_a_pipe_does_not_end_the_others(
    stand_in: StandIn, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in.answers["POST /v1/chat"] = lambda handler, body: handler.failure(
        400, "invalid_request", f"not {body['text']}"
    )
    monkeypatch.setattr(sys, "stdin", io.StringIO("one\ntwo\n"))

    assert main(["chat"]) == 1
    assert capsys.readouterr().err == "sonia: not one\nsonia: not two\n"


def test_ctrl_c_stops_the_answer_and_nothing_else(stand_in: StandIn, capsys: Capture) -> None:
    hung_up = threading.Event()

    def talk(handler: Handler, body: Any) -> None:
        handler.begin_events()
        handler.event("turn.started", session_id="ses_1")
        handler.event("response.delta", text="Once upon a time")
        os.kill(os.getpid(), signal.SIGINT)
        with contextlib.suppress(ConnectionResetError):  # one way of hanging up
            assert handler.connection.recv(1) == b""
        hung_up.set()
        handler.close_connection = True

    stand_in.answers["POST /v1/chat"] = talk
    config = load(None, {})
    conversation = Conversation(Server.find(config), config.data)

    chat._answered(conversation, "Tell me a story.")

    assert hung_up.wait(PATIENCE_S)
    assert "(stopped)" in capsys.readouterr().err
    stand_in.says("Here I am.")
    conversation.say("And now?")
    assert capsys.readouterr().out == "Here I am.\n"


def test_a_model_that_is_still_loading_is_waited_for(stand_in: StandIn, capsys: Capture) -> None:
    states = ["warming", "warming", "ready"]
    stand_in.says("Now.")
    stand_in.answers["GET /router/route"] = lambda handler, _: handler.data({"provider": "local"})
    stand_in.answers["GET /router/providers"] = lambda handler, _: handler.data(
        {"providers": [{"name": "local", "state": states.pop(0), "reason": "at 40 %"}]}
    )

    assert main(["chat", "x"]) == 0

    captured = capsys.readouterr()
    assert states == []
    assert captured.out == "Now.\n"
    assert captured.err == "(waiting for the model: at 40 %)\n"


# --- consent -----------------------------------------------------------------------------


def test_without_a_terminal_it_says_how_to_allow_and_goes_on_by_itself(
    stand_in: StandIn, capsys: Capture
) -> None:
    answers = needs_consent(stand_in)
    with subprocess.Popen(
        [sys.executable, "-m", "sonia", "chat", "Remove x."],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stderr
        line = next(line for line in running.stderr if line.startswith("Waiting."))
        status = main(["approvals", "approve", "appr_1"])
        out, _ = running.communicate()

    assert line == "Waiting. To allow it: sonia approvals approve appr_1\n"
    assert status == 0
    assert out == "So be it.\n"
    assert answers == [("approve", f"Bearer {TOKEN}")]
    assert TOKEN not in capsys.readouterr().out


def test_t14_the_preview_is_shown_whole_with_nothing_hidden() -> None:
    long = "\n".join(f"line {number} " + "x" * 300 for number in range(200))

    shown = chat.question({**ASKED, "preview": f"{ASKED['preview']}\n{long}\u200b\u2066end"})

    assert "rm \\u202etxt.exe\n" in shown
    assert "\\x1b[2J" in shown
    assert "line 199 " + "x" * 300 + "\\u200b\\u2066end" in shown
    assert "\u202e" not in shown


class Terminal:
    """`sonia chat` in a terminal of its own."""

    def __init__(self, *arguments: str) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sonia", *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            env=os.environ | {"TERM": "dumb"},
        )
        os.close(theirs)
        self.shown = ""

    def until(self, text: str) -> str:
        """Read until `text` is shown; returns everything since the last call."""
        while text not in self.shown:
            assert select.select([self._ours], [], [], PATIENCE_S)[0], (
                f"no {text!r} in {self.shown!r}"
            )
            try:
                self.shown += os.read(self._ours, 4096).decode()
            except OSError as error:  # the program has ended
                raise AssertionError(f"no {text!r} in {self.shown!r}") from error
        seen, _, self.shown = self.shown.partition(text)
        return seen

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def interrupt_until(self, text: str) -> None:
        """Press Ctrl-C once. One that comes just before `input` waits is seen when it wakes up."""
        os.kill(self.process.pid, signal.SIGINT)
        while text not in self.shown:
            os.kill(self.process.pid, signal.SIGWINCH)  # wakes it up, and does nothing else
            if select.select([self._ours], [], [], 0.1)[0]:
                self.shown += os.read(self._ours, 4096).decode()
        self.until(text)

    def close(self) -> int:
        """Wait for the end; the exit status."""
        return self.process.wait(PATIENCE_S)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)


@pytest.mark.parametrize(("typed", "verb"), [("y", "approve"), ("", "deny"), ("sure", "deny")])
def test_in_a_terminal_only_a_yes_allows(stand_in: StandIn, typed: str, verb: str) -> None:
    answers = needs_consent(stand_in)

    with Terminal("chat") as terminal:
        terminal.until(chat.PROMPT)
        terminal.type("Remove x.\n")
        seen = terminal.until("Allow? [y/N] ")
        terminal.type(f"{typed}\n")
        terminal.until("So be it.")
        terminal.until(chat.PROMPT)
        terminal.type("\x04")
        after = terminal.until("sonia chat --session ses_1")
        status = terminal.close()

    assert status == 0
    assert "Sonia asks to use shell.run (risk 2 of 3):" in seen
    assert answers == [(verb, f"Bearer {TOKEN}")]
    assert TOKEN not in seen + after


def test_in_a_terminal_ctrl_c_at_the_question_stops_the_turn(stand_in: StandIn) -> None:
    answers = needs_consent(stand_in)

    with Terminal("chat") as terminal:
        terminal.until(chat.PROMPT)
        terminal.type("Remove x.\n")
        terminal.until("Allow? [y/N] ")
        terminal.interrupt_until("(stopped)")
        terminal.until(chat.PROMPT)
        terminal.type("\x04")
        terminal.until("--session")
        status = terminal.close()

    assert status == 0
    assert answers == []


def test_in_a_terminal_new_begins_another_session(stand_in: StandIn) -> None:
    stand_in.says("Yes.")

    with Terminal("chat") as terminal:
        for typed in ("one\n", "/new\n", "two\n", "\x04"):
            terminal.until(chat.PROMPT)
            terminal.type(typed)
        terminal.until("--session")
        status = terminal.close()

    assert status == 0
    assert bodies(stand_in) == [{"text": "one"}, {"text": "two"}]


# --- approvals ---------------------------------------------------------------------------

APPROVAL = {
    **{key: ASKED[key] for key in ("tool", "preview", "risk_tier", "expires_at")},
    "id": "appr_1",
    "state": "pending",
    "reason": "it changes things",
    "needs_code": False,
}


def test_approvals_lists_what_waits(stand_in: StandIn, capsys: Capture) -> None:
    stand_in.answers["GET /v1/approvals"] = lambda handler, _: handler.data([APPROVAL])

    assert main(["approvals"]) == 0
    assert main(["approvals", "list", "--all"]) == 0

    first, second = capsys.readouterr().out.splitlines()
    assert first == second == "appr_1  pending   risk 2  shell.run  rm \\u202etxt.exe"
    assert [path for _, path, _, _ in stand_in.asked] == [
        "/v1/approvals?state=pending",
        "/v1/approvals",
    ]


@pytest.mark.parametrize(("said", "verb"), [("y\n", "approve"), ("\n", "deny"), ("no\n", "deny")])
def test_asking_shows_each_whole_and_takes_an_answer(
    stand_in: StandIn, capsys: Capture, monkeypatch: pytest.MonkeyPatch, said: str, verb: str
) -> None:
    answers = needs_consent(stand_in)
    stand_in.answers["GET /v1/approvals"] = lambda handler, _: handler.data([APPROVAL])
    monkeypatch.setattr("sys.stdin", io.StringIO(said))

    assert main(["approvals", "ask"]) == 0

    assert answers == [(verb, f"Bearer {TOKEN}")]
    assert "second line \\x1b[2J" in capsys.readouterr().out


def test_asking_without_an_answer_settles_nothing(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = needs_consent(stand_in)
    stand_in.answers["GET /v1/approvals"] = lambda handler, _: handler.data([APPROVAL])
    monkeypatch.setattr("sys.stdin", io.StringIO(""))

    assert main(["approvals", "ask"]) == 0

    assert answers == []


def test_approvals_show_is_the_whole_question(stand_in: StandIn, capsys: Capture) -> None:
    stand_in.answers["GET /v1/approvals/appr_1"] = lambda handler, _: handler.data(APPROVAL)

    assert main(["approvals", "show", "appr_1"]) == 0

    said = capsys.readouterr().out
    assert "second line \\x1b[2J" in said
    assert "State: pending. Why: it changes things" in said


def test_denying_sends_the_reason_and_the_token(stand_in: StandIn, capsys: Capture) -> None:
    answers = needs_consent(stand_in)

    assert main(["approvals", "deny", "appr_1", "--reason", "not now"]) == 0

    assert answers == [("deny", f"Bearer {TOKEN}")]
    assert stand_in.asked[0][2] == {"reason": "not now"}
    assert TOKEN not in capsys.readouterr().out


def test_an_approval_that_is_settled_already_is_told(stand_in: StandIn, capsys: Capture) -> None:
    stand_in.answers["POST /v1/approvals/appr_1/approve"] = lambda handler, _: handler.failure(
        409, "conflict", "It has expired."
    )

    assert main(["approvals", "approve", "appr_1"]) == 1
    assert capsys.readouterr().err == "sonia: It has expired.\n"


def test_an_id_is_never_part_of_the_path(stand_in: StandIn) -> None:
    main(["approvals", "show", "../sessions?x"])

    assert stand_in.asked[0][1] == "/v1/approvals/..%2Fsessions%3Fx"


def test_t36_without_its_file_the_token_is_not_guessed(stand_in: StandIn, capsys: Capture) -> None:
    Path("data/operator.token").unlink()

    assert main(["approvals", "approve", "appr_1"]) == 1

    assert "operator.token" in capsys.readouterr().err
    assert stand_in.asked == []
