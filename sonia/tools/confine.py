"""The second wall: Landlock, put up inside the sandbox by the process that becomes the command.

Run as a program of its own, with the standard library alone:

    python -ISc <this file> <folders to write, by newlines> <program> <its words>

Everything that is visible may be read and run, only those folders changed, no TCP used, and no
process outside signalled or spoken to by abstract sockets, as far as the kernel knows how
(Landlock's ABI 1 to 6; https://docs.kernel.org/userspace-api/landlock.html).
"""

from __future__ import annotations

import ctypes
import os
import signal
import struct
import sys

CREATE, ADD_RULE, RESTRICT = 444, 445, 446
VERSION_FLAG, PATH_BENEATH = 1, 1
NO_NEW_PRIVS = 38
EXECUTE, WRITE, READ, READ_DIR = 1, 2, 4, 8
FIRST_RIGHTS = (1 << 13) - 1
REFER, TRUNCATE, IOCTL = 1 << 13, 1 << 14, 1 << 15
TCP = 3  # bind and connect
SCOPES = 3  # abstract sockets and signals
NOT_FOUND = 127


def abi() -> int:
    """The kernel's version of Landlock; 0 when there is none."""
    found: int = ctypes.CDLL(None).syscall(CREATE, None, ctypes.c_size_t(0), VERSION_FLAG)
    return max(found, 0)


def confine(writable: list[str]) -> None:
    """Give up, for this process and all it starts, what the command needs not."""
    version = abi()
    if not version:
        return
    rights = FIRST_RIGHTS
    for since, right in ((2, REFER), (3, TRUNCATE), (5, IOCTL)):
        rights |= right if version >= since else 0
    attributes = struct.pack("QQQ", rights, TCP, SCOPES)
    size = 8 if version < 4 else 16 if version < 6 else 24
    rules = _call(CREATE, attributes[:size], ctypes.c_size_t(size), 0)
    _allow(rules, "/", EXECUTE | READ | READ_DIR)
    _allow(rules, "/dev", (READ | WRITE | READ_DIR | IOCTL | TRUNCATE) & rights)
    for folder in writable:
        _allow(rules, folder, rights)
    if ctypes.CDLL(None).prctl(NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError("no_new_privs was refused")
    _call(RESTRICT, rules, 0)
    os.close(rules)


def _allow(rules: int, folder: str, rights: int) -> None:
    try:
        opened = os.open(folder, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        _call(ADD_RULE, rules, PATH_BENEATH, struct.pack("=Qi", rights, opened), 0)
    finally:
        os.close(opened)


def _call(number: int, *args: object) -> int:
    system = ctypes.CDLL(None, use_errno=True)
    result: int = system.syscall(number, *args)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def main() -> None:
    """Confine this process, and become the program."""
    _, folders, *words = sys.argv
    confine(folders.split("\n"))
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # by Python alone
        signal.signal(ignored, signal.SIG_DFL)
    try:
        os.execvp(words[0], words)  # noqa: S606  that is what this is for
    except OSError as error:
        os.write(2, f"{words[0]}: {error.strerror}\n".encode(errors="surrogateescape"))
        os._exit(NOT_FOUND)


if __name__ == "__main__":
    main()
