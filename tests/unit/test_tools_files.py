"""The workspace: nothing outside is reached, and a file is replaced whole or not at all."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonia.errors import SoniaError
from sonia.tools.files import FileMissing, FileTooLarge, Workspace
from sonia.tools.interface import FileChanged, ToolFailed
from sonia.tools.paths import PathRefused, components
from sonia.tools.trash import Trash

PATHS = Path(__file__).parents[3] / "shared" / "data" / "security" / "paths"
CANARY = b"canary: outside the workspace"

HOSTILE = (
    "..", "../secret", "a/../../secret", "./../secret", "....//secret", "..\\secret",
    "..\\..\\secret", "/etc/passwd", "//etc/passwd", "///secret", "~/.ssh/id_rsa",
    "~root/.profile", "C:\\Windows\\win.ini", "c:secret", "C:/Windows/win.ini",
    "\\\\server\\share\\secret", "//server/share/secret", "\\\\?\\C:\\secret", "secret\0.txt",
    "\0", "a\nb", "a\rb", "\x1b[2Jsecret", "..%2fsecret", "%2e%2e/%2e%2e/secret",
    "..%c0%afsecret", "..%252fsecret", "\u202egpj.secret", "\ud800", "", "file:///etc/passwd",
    "/proc/self/environ", "/proc/self/root/etc/passwd", "/dev/zero", "a/" * 500 + "secret",
    "x" * 300, "x/" * 3000, "..;/secret", ".../secret", "..\u2215secret", "\uff0e\uff0e/secret",
    "link/../../secret", "secret/..", " ../secret", "../ secret",
)  # fmt: skip


def hostile_paths() -> list[str]:
    found = set(HOSTILE)
    if PATHS.is_dir():
        for file in PATHS.glob("*.txt"):
            found |= set(file.read_text(encoding="utf-8", errors="surrogateescape").splitlines())
    return sorted(found)


def exchanging(first: Path, second: Path) -> None:
    """Swap two names in one step."""
    exchange = ctypes.CDLL(None, use_errno=True).renameat2
    assert exchange(-100, os.fsencode(first), -100, os.fsencode(second), 2) == 0


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "secret").write_bytes(CANARY)
    root = tmp_path / "inside"
    root.mkdir()
    return Workspace(root, 100_000)


def tree(folder: Path, but: Path) -> dict[str, bytes | None]:
    return {
        str(path): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
        if but not in path.parents
    }


def attempts(workspace: Workspace, path: str) -> list[str]:
    """What went wrong when a hostile path was read and written; refusing it is right."""
    faults = []
    try:
        if CANARY in workspace.read(path):
            faults.append(f"{path!r} was read")
    except SoniaError as error:
        if error.status >= 500:
            faults.append(f"{path!r}: {error}")
    try:
        workspace.write(path, b"escaped", "create", None)
    except SoniaError as error:
        if error.status >= 500:
            faults.append(f"{path!r}: {error}")
    return faults


def test_t24_no_hostile_path_reads_or_writes_outside(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda number: None)  # over a thousand, for no power cut
    before = tree(tmp_path, but=workspace.root)

    faults = [fault for path in hostile_paths() for fault in attempts(workspace, path)]

    assert faults == []
    assert tree(tmp_path, but=workspace.root) == before
    assert not Path("/escaped").exists()


@pytest.mark.parametrize(
    "path",
    ["../secret", "/etc/passwd", "C:\\x", "\\\\server\\x", "a\0b", "~/x", "", "a/../b", "\u202ex"],
)
def test_t24_a_path_that_is_not_plainly_inside_is_refused_by_its_spelling(path: str) -> None:
    with pytest.raises(PathRefused, match="relative to the workspace"):
        components(path)


@given(st.text(max_size=60))
def test_t24_components_never_lead_up_or_to_the_root(path: str) -> None:
    try:
        names = components(path)
    except PathRefused:
        return

    assert not {"..", ".", ""} & set(names)
    assert not any("/" in name or "\0" in name for name in names)


def test_t25_links_pipes_devices_and_second_names_are_neither_read_nor_written(
    workspace: Workspace, tmp_path: Path
) -> None:
    root, outside = workspace.root, tmp_path / "secret"
    (root / "link").symlink_to(outside)
    (root / "dangling").symlink_to(tmp_path / "made")
    (root / "folder").symlink_to(tmp_path)
    (root / "proc").symlink_to("/proc/self/root")
    (root / "hard").hardlink_to(outside)
    os.mkfifo(root / "pipe")
    (root / "real").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "socket"))
        names = [
            "link", "dangling", "folder/secret", "folder/made", "proc/etc/passwd", "hard", "pipe",
            "real", "socket", "link/x", "pipe/x",
        ]  # fmt: skip

        for name in names:
            with pytest.raises(PathRefused):
                workspace.read(name)
            with pytest.raises(PathRefused):
                workspace.digest(name)
            with pytest.raises(PathRefused):
                workspace.write(name, b"x", "replace", None)

    assert outside.read_bytes() == CANARY
    assert not (tmp_path / "made").exists()
    assert not list(root.rglob("*.part"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a device")
def test_t25_a_device_is_not_opened(workspace: Workspace) -> None:
    os.mknod(workspace.root / "zero", 0o20666, os.makedev(1, 5))

    with pytest.raises(PathRefused, match="device"):
        workspace.read("zero")


def test_t25_a_huge_file_is_refused_before_it_is_read(workspace: Workspace) -> None:
    with (workspace.root / "huge").open("wb") as file:
        file.truncate(1 << 40)

    with pytest.raises(FileTooLarge):
        workspace.read("huge")
    with pytest.raises(FileTooLarge):
        workspace.write("huge", b"x", "append", workspace.digest("huge"))
    assert (workspace.digest("huge") or "").startswith("stat:")


def test_t26_a_folder_exchanged_for_a_link_during_the_call_leads_nowhere(
    workspace: Workspace, tmp_path: Path
) -> None:
    root = workspace.root
    (root / "d").mkdir()
    (root / "d" / "secret").write_bytes(b"inside")
    (root / "swap").symlink_to(tmp_path)
    over, seen = threading.Event(), {"inside": 0, "refused": 0, "swaps": 0}

    def race() -> None:
        while not over.is_set():
            exchanging(root / "d", root / "swap")
            seen["swaps"] += 1

    racer = threading.Thread(target=race)
    racer.start()
    try:
        while sum(seen.values()) < 5_000 or min(seen.values()) < 100:
            try:
                assert workspace.read("d/secret") == b"inside"
                workspace.write(f"d/new{seen['inside'] % 50}", b"x", "append", None)
                seen["inside"] += 1
            except FileChanged:
                seen["inside"] += 1
            except (PathRefused, FileMissing):
                seen["refused"] += 1
    finally:
        over.set()
        racer.join()

    assert sorted(path.name for path in tmp_path.iterdir()) == ["inside", "secret"]
    assert (tmp_path / "secret").read_bytes() == CANARY


def test_t24_no_hostile_path_deletes_outside(workspace: Workspace, tmp_path: Path) -> None:
    (workspace.root / "kept").write_text("kept")
    trash = Trash(tmp_path / "trash", workspace)
    before = tree(tmp_path, workspace.root)
    refused = 0

    for path in hostile_paths():
        try:
            trash.take(path, "act_1", trash.survey(path).digest)
        except SoniaError:
            refused += 1

    assert refused >= len(HOSTILE)
    assert tree(tmp_path, workspace.root) == before
    assert (workspace.root / "kept").read_text() == "kept"


def test_t26_a_folder_exchanged_for_a_link_during_a_deletion_leads_nowhere(
    workspace: Workspace, tmp_path: Path
) -> None:
    root = workspace.root
    trash = Trash(tmp_path / "trash", workspace)
    (root / "d").mkdir()
    (root / "swap").symlink_to(tmp_path)
    over, tried = threading.Event(), 0

    def race() -> None:
        while not over.is_set():
            exchanging(root / "d", root / "swap")

    racer = threading.Thread(target=race)
    racer.start()
    try:
        for tried in range(400):
            with contextlib.suppress(SoniaError):
                trash.take("d/secret", f"act_{tried}", trash.survey("d/secret").digest)
    finally:
        over.set()
        racer.join()

    assert tried == 399
    assert (tmp_path / "secret").read_bytes() == CANARY


def test_writing_makes_folders_and_returns_size_and_digest(workspace: Workspace) -> None:
    size, digest = workspace.write("a/b/c.txt", b"hello", "create", None)

    assert (size, digest) == (5, hashlib.sha256(b"hello").hexdigest())
    assert workspace.read("./a//b/c.txt") == b"hello"
    assert workspace.digest("a/b/c.txt") == digest


def test_create_refuses_a_file_that_exists(workspace: Workspace) -> None:
    workspace.write("a.txt", b"one", "create", None)

    with pytest.raises(ToolFailed, match="exists already"):
        workspace.write("a.txt", b"two", "create", None)
    assert workspace.read("a.txt") == b"one"


def test_append_adds_at_the_end_and_keeps_the_mode_bits(workspace: Workspace) -> None:
    _, digest = workspace.write("run.sh", b"one\n", "create", None)
    (workspace.root / "run.sh").chmod(0o750)

    workspace.write("run.sh", b"two\n", "append", digest)

    assert workspace.read("run.sh") == b"one\ntwo\n"
    assert (workspace.root / "run.sh").stat().st_mode & 0o777 == 0o750


@pytest.mark.parametrize("mode", ["replace", "append"])
def test_t07_a_file_that_changed_since_the_plan_is_not_written(
    workspace: Workspace, mode: str
) -> None:
    _, planned = workspace.write("a.txt", b"as planned", "create", None)
    (workspace.root / "a.txt").write_bytes(b"changed")

    with pytest.raises(FileChanged):
        workspace.write("a.txt", b"new", mode, planned)  # type: ignore[arg-type]
    assert workspace.read("a.txt") == b"changed"


def test_a_file_that_appeared_since_the_plan_is_not_written(workspace: Workspace) -> None:
    (workspace.root / "a.txt").write_bytes(b"somebody else's")

    with pytest.raises(FileChanged):
        workspace.write("a.txt", b"new", "replace", None)


def test_more_than_the_limit_is_not_written(workspace: Workspace) -> None:
    with pytest.raises(FileTooLarge):
        workspace.write("a.txt", b"x" * 100_001, "create", None)
    assert list(workspace.root.iterdir()) == []


def test_r04_a_disk_that_fills_while_writing_leaves_the_old_file_whole(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"old")
    program = """
import resource, sys
from pathlib import Path
from sonia.errors import StorageFull
from sonia.tools.files import Workspace
workspace = Workspace(Path(sys.argv[1]), 1_000_000)
before = workspace.digest("a.txt")
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    workspace.write("a.txt", b"x" * 500_000, "replace", before)
except StorageFull:
    sys.exit(42)
"""

    ended = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], cwd=Path(__file__).parents[2], check=False
    )

    assert ended.returncode == 42
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_bytes() == b"old"


def test_a_listing_names_kinds_and_sizes_sorted_and_bounded(
    workspace: Workspace, tmp_path: Path
) -> None:
    root = workspace.root
    (root / "b").mkdir()
    (root / "a.txt").write_bytes(b"12345")
    (root / "c").symlink_to(tmp_path)
    os.mkfifo(root / "d")

    entries, count = workspace.list(".", 3)

    assert [(entry.name, entry.kind, entry.bytes) for entry in entries] == [
        ("a.txt", "file", 5),
        ("b", "folder", None),
        ("c", "link", None),
    ]
    assert count == 4
    with pytest.raises(PathRefused):
        workspace.list("c", 3)
