"""Lines and server-sent events out of bytes that arrive in any pieces."""

from __future__ import annotations

from sonia.errors import UpstreamError

LONGEST_BYTES = 8 * 1024 * 1024


class Lines:
    """Whole lines, without their ends."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that are whole now. Raises `UpstreamError` for one without an end."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LONGEST_BYTES:
            raise UpstreamError(f"A line of the answer is over {LONGEST_BYTES} bytes long.")
        return lines

    def end(self) -> list[bytes]:
        """What came after the last line's end."""
        rest, self._rest = self._rest, b""
        return [rest] if rest else []


class ServerSentData:
    """The `data` of server-sent events; names, ids and comments are left out."""

    def __init__(self) -> None:
        self._lines = Lines()
        self._data: list[bytes] = []

    def feed(self, data: bytes) -> list[bytes]:
        """The events that are whole now, in order."""
        found: list[bytes] = []
        for line in self._lines.feed(data):
            if line.endswith(b"\r"):
                line = line[:-1]
            if line.startswith(b"data:"):
                self._data.append(line[6:] if line[5:6] == b" " else line[5:])
            elif not line and self._data:
                found.append(b"\n".join(self._data))
                self._data.clear()
        return found

    def end(self) -> list[bytes]:
        """An event that lacks only its empty line: some servers end so."""
        found = self.feed(b"\n\n")
        self._lines.end()
        return found
