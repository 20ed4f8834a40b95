"""Tools that reach the person's desktop: each word goes to the program as one word."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from sonia.tools.addresses import AddressRefused
from sonia.tools.builtin.browser_open import BrowserOpen, BrowserOpenArguments
from sonia.tools.builtin.notification_send import NotificationSend, NotificationSendArguments
from sonia.tools.desktop import NoDesktop
from sonia.tools.interface import ToolFailed
from sonia.tools.tool import Grant

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the programs are Linux's")
GRANT = Grant(digests={}, timeout_s=30.0)
RECORDS = '#!/bin/sh\nprintf "%s\\n" "$@" > "$HOME/words"\nenv > "$HOME/environment"\n'


@pytest.fixture
def desktop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A desktop whose programs write down what they are told, in the folder."""
    for name in ("notify-send", "xdg-open"):
        program = tmp_path / name
        program.write_text(RECORDS)
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DISPLAY", ":99")
    monkeypatch.setenv("OPENAI_API_KEY", "canary")
    return tmp_path


def words(desktop: Path) -> list[str]:
    return (desktop / "words").read_text().splitlines()


async def test_a_notification_gets_its_words_as_they_are(desktop: Path) -> None:
    wanted = NotificationSendArguments(message="-i tea; $(touch /x) is ready", title="Kitchen")

    result = await NotificationSend().run(wanted, GRANT)

    assert result["shown"] is True
    assert words(desktop)[-3:] == ["--", "Kitchen", "-i tea; $(touch /x) is ready"]
    assert "canary" not in (desktop / "environment").read_text()


async def test_a_page_is_opened_at_the_address_that_was_shown(desktop: Path) -> None:
    wanted = BrowserOpenArguments(url="https://Bücher.example/a?q=1#top")

    intent = await BrowserOpen().plan(wanted)
    result = await BrowserOpen().run(wanted, GRANT)

    assert intent.preview.endswith("\n\nhttps://xn--bcher-kva.example/a?q=1")
    assert words(desktop) == ["https://xn--bcher-kva.example/a?q=1"] == [result["opened"]]


@pytest.mark.parametrize(
    "url",
    ["javascript:alert(1)", "file:///etc/passwd", "https://user:pw@a.example/", "--help", "http://",
     "https://a.example/ b", "https://a.example/\u202e", "data:text/html,x", "a.example"],
)  # fmt: skip
async def test_only_plain_web_addresses_are_opened(url: str) -> None:
    with pytest.raises(AddressRefused):
        await BrowserOpen().plan(BrowserOpenArguments(url=url))


async def test_without_a_desktop_the_reason_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)

    with pytest.raises(NoDesktop, match="notify-send"):
        await NotificationSend().ready()
    with pytest.raises(NoDesktop, match="no desktop"):
        await BrowserOpen().ready()


async def test_what_the_program_says_of_its_failure_is_passed_on(desktop: Path) -> None:
    (desktop / "notify-send").write_text("#!/bin/sh\necho 'no bus' >&2\nexit 3\n")
    wanted: Any = NotificationSendArguments(message="tea")

    with pytest.raises(ToolFailed, match="no bus"):
        await NotificationSend().run(wanted, GRANT)
