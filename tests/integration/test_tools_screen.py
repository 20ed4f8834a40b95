"""The pack `desktop` on a real X server with a real terminal in it."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from sonia.tools.desktop import NoDesktop
from sonia.tools.files import Workspace
from sonia.tools.interface import ArgumentsInvalid, FileChanged
from sonia.tools.packs.desktop import tools
from sonia.tools.packs.windows import WindowMissing
from sonia.tools.tool import Grant, Tool

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="X11 is Linux's here")
PROGRAMS = ("Xvfb", "xterm", "xdotool")


@pytest.fixture
async def display(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """A screen of 800 by 600 that nobody sees."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    assert not missing, f"Install {', '.join(missing)} for this test, as .ci/run does."
    number, tells = os.pipe()
    words = ("-displayfd", str(tells), "-screen", "0", "800x600x24", "-nolisten", "tcp", "-noreset")
    async with program("Xvfb", *words, pass_fds=(tells,)):
        os.close(tells)
        with os.fdopen(number) as told:  # to the end of the line, or it dies of the closed pipe
            name = f":{(await asyncio.to_thread(told.readline)).strip()}"
        monkeypatch.setenv("DISPLAY", name)
        monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
        yield name


@asynccontextmanager
async def program(*words: str, **more: Any) -> AsyncIterator[asyncio.subprocess.Process]:
    nowhere = asyncio.subprocess.DEVNULL
    started = await asyncio.create_subprocess_exec(
        *words, stdin=nowhere, stdout=nowhere, stderr=nowhere, **more
    )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.terminate()
        await started.wait()


@pytest.fixture
def pack(tmp_path: Path) -> dict[str, Tool[Any]]:
    workspace = Workspace(tmp_path / "workspace", 1_000_000)
    workspace.prepare()
    return {tool.name: tool for tool in tools(workspace)}


async def act(tool: Tool[Any], **given: Any) -> tuple[str, dict[str, Any], dict[str, Any] | None]:
    """What was shown, what came of it, and what looking again says."""
    args = tool.read(given)
    await tool.ready()
    intent = await tool.plan(args)
    result = await tool.run(args, Grant(digests=intent.digests, timeout_s=60.0))
    return intent.preview, result, await tool.verify(args, result)


async def window_of(pack: dict[str, Tool[Any]], title: str) -> dict[str, Any]:
    while True:  # until the terminal has drawn itself
        _, told, _ = await act(pack["window.list"])
        for window in told["windows"]:
            if window["title"] == title:
                return dict(window)


@asynccontextmanager
async def terminal(tmp_path: Path, command: str) -> AsyncIterator[asyncio.subprocess.Process]:
    words = ("-T", "notes", "-geometry", "60x20+40+30", "-e", "sh", "-c", command)
    async with program("xterm", *words, cwd=tmp_path) as started:
        yield started


async def test_what_is_typed_arrives_in_the_window_that_was_shown(
    display: str, pack: dict[str, Tool[Any]], tmp_path: Path
) -> None:
    async with terminal(tmp_path, 'read line; printf %s "$line" > typed') as started:
        window = await window_of(pack, "notes")
        number = window["window"]
        shown, typed, looked = await act(
            pack["keyboard.type"], window=number, text="milk & eggs; (two)"
        )
        pressed, _, _ = await act(pack["keyboard.press"], window=number, keys="Return")
        await started.wait()

    assert (window["program"], window["pid"]) == ("xterm", started.pid)
    assert shown.startswith(f'Type into "notes" (xterm, window {number}):')
    assert "milk & eggs; (two)" in shown
    assert pressed == f'Press Return in "notes" (xterm, window {number})'
    assert (typed["chars"], looked) == (18, {"ok": True})
    assert (tmp_path / "typed").read_text() == "milk & eggs; (two)"


async def test_a_click_is_made_inside_its_window_and_nowhere_else(
    display: str, pack: dict[str, Tool[Any]], tmp_path: Path
) -> None:
    async with terminal(tmp_path, "read line"):
        window = await window_of(pack, "notes")
        shown, told, looked = await act(
            pack["pointer.click"], window=window["window"], x=10, y=20, clicks=2
        )
        with pytest.raises(ArgumentsInvalid, match="not in the window"):
            await act(pack["pointer.click"], window=window["window"], x=5_000, y=5)

    assert shown.startswith('Double-click (left) at 10, 20 in "notes"')
    assert (told["x"], told["y"]) == (window["x"] + 10, window["y"] + 20)
    assert looked == {"ok": True}


async def test_another_programs_window_of_the_same_number_is_left_alone(
    display: str, pack: dict[str, Tool[Any]], tmp_path: Path
) -> None:
    async with terminal(tmp_path, "read line"):
        tool = pack["window.focus"]
        args = tool.read({"window": (await window_of(pack, "notes"))["window"]})
        planned = await tool.plan(args)
        other = Grant(digests=dict.fromkeys(planned.digests, "other 1"), timeout_s=60.0)
        with pytest.raises(FileChanged):
            await tool.run(args, other)
        with pytest.raises(WindowMissing, match=r"window\.list"):
            await act(tool, window=1)


async def test_a_picture_of_the_screen_is_a_new_file_in_the_workspace(
    display: str, pack: dict[str, Tool[Any]], tmp_path: Path
) -> None:
    async with terminal(tmp_path, "read line"):
        await window_of(pack, "notes")
        _, told, looked = await act(pack["screen.capture"], path="pictures/screen.png")
        with pytest.raises(ArgumentsInvalid, match="there already"):
            await act(pack["screen.capture"], path="pictures/screen.png")

    png = (tmp_path / "workspace" / "pictures" / "screen.png").read_bytes()
    assert png.startswith(b"\x89PNG")
    assert (told["width"], told["height"]) == (800, 600)
    assert looked == {"ok": True}


@pytest.mark.parametrize("name", ["window.list", "keyboard.type", "screen.capture"])
@pytest.mark.parametrize(
    ("environment", "why"),
    [({}, "no desktop"), ({"DISPLAY": ":0", "WAYLAND_DISPLAY": "wayland-0"}, "X11 session")],
)
async def test_where_it_cannot_work_it_says_why(
    pack: dict[str, Tool[Any]],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    environment: dict[str, str],
    why: str,
) -> None:
    for variable in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)

    with pytest.raises(NoDesktop, match=why):
        await pack[name].ready()


async def test_looking_asks_and_typing_is_the_highest_tier(pack: dict[str, Tool[Any]]) -> None:
    tiers = {name: tool.tier for name, tool in pack.items()}

    assert tiers == {
        "window.list": 0,
        "window.focus": 1,
        "screen.capture": 1,
        "pointer.click": 2,
        "keyboard.type": 3,
        "keyboard.press": 3,
    }


@pytest.mark.parametrize("keys", ["Return Return", "--clearmodifiers", "ctrl+", "a;b", ""])
def test_only_one_combination_of_keys_is_taken(pack: dict[str, Tool[Any]], keys: str) -> None:
    with pytest.raises(ArgumentsInvalid):
        pack["keyboard.press"].read({"window": 1, "keys": keys})
