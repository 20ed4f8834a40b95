"""`sonia chat`: talk to the running server and watch the answer come."""

from __future__ import annotations

import argparse
import datetime as dt
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sonia.commands import terminal
from sonia.commands.server import Server, operator_token
from sonia.config import Config
from sonia.errors import SoniaError, Unavailable, UpstreamError

EPILOG = """\
examples:
  sonia chat                          a conversation; Ctrl-C stops an answer, Ctrl-D leaves
  sonia chat "My dog is called Biscuit."
  sonia chat --session ses_…          go on with an earlier conversation
  sonia chat < questions.txt          each line is a message, all in one conversation

In a conversation, /new begins another one. When Sonia wants to do something that needs your
consent, she shows exactly what, and waits for a yes.
"""
PROMPT = "you> "
UNBOUNDED = 3  # such a yes takes the confirmation code
POLL_S = 0.25
CLEAR = "\r\033[K"


def add(subparsers: Any) -> None:
    """Add the command."""
    about = "Talk to Sonia."
    parser = subparsers.add_parser("chat", help=about, description=about, epilog=EPILOG)
    parser.add_argument("text", nargs="*", metavar="TEXT", help="one message; without, a dialogue")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--session", metavar="ID", help="go on with this session")
    which.add_argument(
        "--new", action="store_true", help="begin a new session (so it is without --session too)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, config: Config) -> int:
    """Send what was typed, in one session; 1 when something was not answered."""
    conversation = Conversation(Server.find(config), config.data, args.session)
    if text := " ".join(args.text).strip():
        conversation.say(text)
        return 0
    if not sys.stdin.isatty():
        return _each_line(conversation)
    return _dialogue(conversation)


def _each_line(conversation: Conversation) -> int:
    failed = 0
    for line in sys.stdin:
        if text := line.strip():
            failed |= not _said(conversation, text)
    return int(failed)


def _dialogue(conversation: Conversation) -> int:
    with suppress(ImportError):  # Windows edits lines by itself
        import readline  # noqa: F401  makes input() editable
    terminal.note("Talk to Sonia. Ctrl-C stops an answer, Ctrl-D leaves, /new begins anew.")
    while True:
        try:
            _one_exchange(conversation)
        except EOFError:
            print()
            break
        except KeyboardInterrupt:
            print()
    if conversation.session_id:
        terminal.note(f"Go on later with: sonia chat --session {conversation.session_id}")
    return 0


def _one_exchange(conversation: Conversation) -> None:
    text = input(PROMPT).strip()
    if text == "/new":
        conversation.session_id = None
    elif text:
        _answered(conversation, text)


def _answered(conversation: Conversation, text: str) -> None:
    try:
        _said(conversation, text)
    except KeyboardInterrupt:  # hanging up has cancelled the turn
        print(flush=True)
        terminal.note("(stopped)")


def _said(conversation: Conversation, text: str) -> bool:
    try:
        conversation.say(text)
    except SoniaError as error:
        terminal.note(f"sonia: {error.message}")
        return False
    return True


class Conversation:
    """Messages of one session. `session_id` is known after the first one."""

    def __init__(self, server: Server, data: Path, session_id: str | None = None) -> None:
        self._server = server
        self._data = data
        self.session_id = session_id
        self._open_line = False
        self._done = False
        self._ready = False
        self._on: dict[str, Callable[[dict[str, Any]], None]] = {
            "turn.started": self._started,
            "response.delta": self._delta,
            "tool.call": self._called,
            "tool.result": self._answered,
            "approval.required": self._asked,
            "response.done": self._finished,
            "error": self._failed,
        }

    def say(self, text: str) -> None:
        """Print the answer as it comes. Raises `SoniaError` when there is none, or not all."""
        body = {"text": text}
        if self.session_id:
            body["session_id"] = self.session_id
        self._done = False
        if not self._ready:
            wait_for_model(self._server)
            self._ready = True
        try:
            with self._server.events("/v1/chat", body) as events:
                self._follow(events)
        finally:
            self._end_line()

    def _follow(self, events: Iterator[tuple[str, Any]]) -> None:
        for name, data in events:
            if name in self._on and isinstance(data, dict):
                self._on[name](data)
        if not self._done:
            raise Unavailable("The answer broke off: the server went away.")

    def _started(self, data: dict[str, Any]) -> None:
        self.session_id = data.get("session_id", self.session_id)

    def _delta(self, data: dict[str, Any]) -> None:
        text = terminal.harmless(str(data.get("text", "")))
        print(text, end="", flush=True)
        self._open_line = not text.endswith("\n") if text else self._open_line

    def _called(self, data: dict[str, Any]) -> None:
        import json

        self._end_line()
        terminal.note(f"· {data.get('name')} {json.dumps(data.get('arguments'))}")

    def _answered(self, data: dict[str, Any]) -> None:
        self._end_line()
        more = f": {data['message']}" if data.get("message") else ""
        terminal.note(f"· {data.get('name')} {data.get('status')}{more}")

    def _asked(self, data: dict[str, Any]) -> None:
        self._end_line()
        approval_id = str(data.get("approval_id"))
        print(question(data), file=sys.stderr, flush=True)
        if not terminal.is_interactive():
            terminal.note(f"Waiting. To allow it: sonia approvals approve {approval_id}")
            return
        try:
            answer(self._server, self._data, approval_id, int(data.get("risk_tier") or 0))
        except SoniaError as error:  # expired or answered elsewhere: the stream says what follows
            terminal.note(f"sonia: {error.message}")

    def _finished(self, data: dict[str, Any]) -> None:
        self._done = True

    def _failed(self, data: dict[str, Any]) -> None:
        failure = data.get("error") or {}
        self._end_line()
        raise UpstreamError(str(failure.get("message") or "The turn failed."))

    def _end_line(self) -> None:
        if self._open_line:
            print(flush=True)
            self._open_line = False


def wait_for_model(server: Server, poll_s: float = POLL_S) -> None:
    """Wait while the model that would answer is still being fetched or loaded, and say so."""
    told = False
    while (reason := _warming(server)) is not None:
        if not told or sys.stderr.isatty():
            end = "" if sys.stderr.isatty() else "\n"
            line = terminal.harmless(f"(waiting for the model: {reason})")
            print(f"{CLEAR if told else ''}{line}", end=end, file=sys.stderr, flush=True)
        told = True
        time.sleep(poll_s)
    if told and sys.stderr.isatty():
        print(CLEAR, end="", file=sys.stderr, flush=True)


def _warming(server: Server) -> str | None:
    try:
        provider = server.get("/router/route")["provider"]
        known = server.get("/router/providers")["providers"]
    except (SoniaError, TypeError, KeyError):
        return None  # no model at all: the turn says it better
    for one in known:
        if one["name"] == provider and one["state"] == "warming":
            return str(one.get("reason") or "loading")
    return None


def question(data: dict[str, Any]) -> str:
    """What a person is asked, with the whole preview and nothing in it hidden."""
    tool, tier = terminal.visible(str(data.get("tool"))), data.get("risk_tier")
    preview = terminal.visible(str(data.get("preview", ""))).splitlines()
    lines = [f"Sonia asks to use {tool} (risk {tier} of 3):", *(f"    {line}" for line in preview)]
    with suppress(ValueError):  # a server that doesn't say
        until = dt.datetime.fromisoformat(str(data.get("expires_at"))).astimezone()
        lines.append(f"The question stands until {until:%H:%M:%S}.")
    return "\n".join(lines)


def answer(server: Server, data: Path, approval_id: str, risk_tier: int) -> Any:
    """Take a person's yes or no from the terminal and give it. Raises `SoniaError`.

    What is worst takes its confirmation code for a yes.
    """
    if risk_tier < UNBOUNDED:
        yes = terminal.confirm("Allow? [y/N] ")
        return settle(server, data, approval_id, "approve" if yes else "deny")
    code = confirmation_code(server, data, approval_id)
    said = terminal.ask(f"Type {code} to allow this, or press Enter to deny it: ")
    if said:
        return settle(server, data, approval_id, "approve", code=said)
    return settle(server, data, approval_id, "deny")


def confirmation_code(server: Server, data: Path, approval_id: str) -> str:
    """The code without which a yes to the worst does not count. Raises `SoniaError`."""
    path = f"/control/approvals/{quote(approval_id, safe='')}/code"
    return str(server.get(path, token=operator_token(data))["confirmation_code"])


def settle(
    server: Server,
    data: Path,
    approval_id: str,
    verb: str,
    reason: str = "",
    *,
    code: str | None = None,
    trust: str | None = None,
) -> Any:
    """Answer with the operator's token; `verb` is approve or deny. Raises `SoniaError`."""
    path = f"/v1/approvals/{quote(approval_id, safe='')}/{verb}"
    said = {"reason": reason or None, "confirmation_code": code, "trust": trust}
    body = {name: value for name, value in said.items() if value is not None}
    return server.post(path, body, token=operator_token(data))
