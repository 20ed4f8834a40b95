"""The client that speaks to providers: framings, faults, connections kept and given up."""

from __future__ import annotations

import asyncio
import datetime as dt
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sonia.router.backends import http1
from sonia.router.backends.http1 import Answered, BrokenConnection, Line, NotHttp
from sonia.router.backends.wire import Wire, open_wire

OK = b"HTTP/1.1 200 OK\r\n"


class Upstream:
    """Answers each request on a connection with the next of `answers`, byte for byte.

    An empty piece ends the connection; an event is waited for.
    """

    def __init__(self, *answers: Sequence[bytes | asyncio.Event]) -> None:
        self.answers = list(answers)
        self.events = [p for answer in answers for p in answer if isinstance(p, asyncio.Event)]
        self.requests: list[bytes] = []
        self.asked = asyncio.Event()
        self.connections = 0
        self.tasks: set[asyncio.Task[None]] = set()
        self.gone = asyncio.Event()
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.tasks.add(asyncio.current_task())  # type: ignore[arg-type]
        try:
            stays = True
            while stays and self.answers:
                stays = await self._answered(reader, writer)
            if stays:
                await reader.read()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.gone.set()
            writer.close()

    async def _answered(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]
        self.requests.append(head + await reader.readexactly(int(length or 0)))
        self.asked.set()
        return await self._told(writer)

    async def _told(self, writer: asyncio.StreamWriter) -> bool:
        for piece in self.answers.pop(0):
            if isinstance(piece, asyncio.Event):
                await piece.wait()
            elif not piece:
                return False
            else:
                writer.write(piece)
                await writer.drain()
        return True


@asynccontextmanager
async def upstream(*answers: Sequence[bytes | asyncio.Event]) -> AsyncIterator[Upstream]:
    made = Upstream(*answers)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/chat?x=1"
    try:
        yield made
    finally:
        server.close()
        for event in made.events:
            event.set()
        await asyncio.gather(*made.tasks)


async def ask(wire: Wire, url: str, body: bytes = b"{}") -> bytes:
    """The whole body; the connection is kept, where it may be."""
    answer = await wire.send("POST", url, HEADERS, body)
    parts = []
    while data := await answer.readany():
        parts.append(data)
    await wire.leave(answer, whole=True)
    return b"".join(parts)


async def _read(answer: Answered, got: list[bytes]) -> None:
    while data := await answer.readany():
        got.append(data)


HEADERS = {"authorization": "Bearer sk-canary"}
SIZED = [OK + b"Content-Length: 5\r\n\r\n", b"he", b"llo"]
CHUNKED = [OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n", b"3\r\nllo\r\n0\r\n\r\n"]
UNTIL_CLOSED = [OK + b"\r\nhel", b"lo", b""]
CLOSING = [OK + b"Connection: close\r\nContent-Length: 5\r\n\r\nhello"]
INFORMED = [b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n", *SIZED]


@pytest.mark.parametrize(
    ("answer", "connections"),
    [(SIZED, 1), (CHUNKED, 1), (INFORMED, 1), (UNTIL_CLOSED, 2), (CLOSING, 2)],
    ids=["sized", "chunked", "informed", "until closed", "closing"],
)
async def test_every_framing_is_read_and_a_connection_is_used_again_where_it_may_be(
    answer: list[bytes], connections: int
) -> None:
    async with upstream(answer, answer) as it, open_wire() as wire:
        told = [await ask(wire, it.url, b'{"a":1}'), await ask(wire, it.url)]

    assert told == [b"hello", b"hello"]
    assert it.connections == connections
    head, _, body = it.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/chat?x=1 HTTP/1.1\r\nhost: 127.0.0.1:")
    assert b"\r\nauthorization: Bearer sk-canary\r\n" in head
    assert body == b'{"a":1}'


@pytest.mark.parametrize(
    "answer",
    [
        [OK + b"Content-Length: 9\r\n\r\nhello", b""],
        [OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", b""],
        [OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n"],
    ],
    ids=["short", "without its last chunk", "no chunk"],
)
async def test_an_answer_that_breaks_off_is_never_whole(answer: list[bytes]) -> None:
    async with upstream(answer) as it, open_wire() as wire:
        answered = await wire.send("POST", it.url, HEADERS, b"{}")
        got: list[bytes] = []
        with pytest.raises(BrokenConnection):
            await _read(answered, got)
        await wire.leave(answered, whole=False)

    assert b"hello".startswith(b"".join(got))


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ([b""], BrokenConnection),
        ([b"HTTP/1.1 200", b""], BrokenConnection),
        ([b"220 mail.example ESMTP\r\n\r\n"], NotHttp),
        (
            [b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"],
            NotHttp,
        ),
        ([OK + b"x: %s\r\n\r\n" % (b"y" * http1.MOST_HEAD_BYTES)], NotHttp),
    ],
    ids=["nothing", "half a head", "mail", "upgrade", "endless head"],
)
async def test_what_is_no_answer_is_an_error_and_its_connection_is_closed(
    answer: list[bytes], error: type[Exception]
) -> None:
    async with upstream(answer) as it, open_wire() as wire:
        with pytest.raises(error):
            await wire.send("POST", it.url, HEADERS, b"{}")

        await it.gone.wait()


async def test_a_connection_that_the_server_closed_meanwhile_is_not_used() -> None:
    hint = asyncio.Event()
    async with upstream([*SIZED, hint, b""], SIZED) as it, open_wire() as wire:
        first = await ask(wire, it.url)
        (line,) = wire._open
        hint.set()
        await line.lost

        assert [first, await ask(wire, it.url)] == [b"hello", b"hello"]
        assert it.connections == 2


async def test_what_comes_after_the_end_of_an_answer_is_no_part_of_the_next() -> None:
    smuggled = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
    async with upstream([b"".join(SIZED) + smuggled], SIZED) as it, open_wire() as wire:
        told = [await ask(wire, it.url), await ask(wire, it.url)]

    assert told == [b"hello", b"hello"]
    assert it.connections == 2


async def test_who_leaves_while_waiting_closes_the_connection() -> None:
    async with upstream([asyncio.Event()]) as it, open_wire() as wire:
        asking = asyncio.create_task(wire.send("POST", it.url, HEADERS, b"{}"))
        await it.asked.wait()

        asking.cancel()
        await asyncio.wait([asking])
        hung_up = next(iter(wire._open), None)
        if hung_up is not None:
            await hung_up.lost

        assert asking.cancelled()
        assert not wire._open


async def test_an_answer_left_before_its_end_closes_the_connection() -> None:
    endless = [OK + b"Content-Length: 9\r\n\r\nhello", asyncio.Event()]
    async with upstream(endless) as it, open_wire() as wire:
        answer = await wire.send("POST", it.url, HEADERS, b"{}")

        await wire.leave(answer, whole=False)
        await answer.line.lost

        assert not wire._open


async def test_a_provider_that_is_read_slowly_is_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    size, held_back = 40 * http1.MOST_WAITING_BYTES, asyncio.Event()
    hold_back = Line.hold_back

    def noted(line: Line) -> None:
        hold_back(line)
        held_back.set()

    monkeypatch.setattr(Line, "hold_back", noted)
    large = [OK + b"Content-Length: %d\r\n\r\n" % size, bytes(size)]
    async with upstream(large) as it, open_wire() as wire:
        answer = await wire.send("POST", it.url, HEADERS, b"{}")
        await held_back.wait()

        held = sum(map(len, answer._pieces))
        got: list[bytes] = []
        await _read(answer, got)
        await wire.leave(answer, whole=True)

    assert held < size / 2
    assert sum(map(len, got)) == size


async def test_idle_connections_are_closed_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sonia.router.backends.wire.IDLE_S", 0.0)
    async with upstream(SIZED, SIZED) as it, open_wire() as wire:
        await ask(wire, it.url)
        (line,) = wire._open

        await line.lost

        assert not wire._open


async def test_a_header_can_not_become_two() -> None:
    async with upstream(SIZED) as it, open_wire() as wire:
        with pytest.raises(ValueError, match="line's end"):
            await wire.send("POST", it.url, {"x": "a\r\nevil: 1"}, b"{}")

    assert it.requests == []


async def test_a_plain_request_goes_to_the_environments_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with upstream(SIZED) as proxy, open_wire() as wire:
        place = proxy.url.partition("//")[2].partition("/")[0]
        monkeypatch.setenv("http_proxy", f"http://ann:s%40fe@{place}")

        told = await ask(wire, "http://provider.invalid/v1/chat")

    assert told == b"hello"
    head = proxy.requests[0]
    assert head.startswith(b"POST http://provider.invalid/v1/chat HTTP/1.1\r\n")
    assert b"\r\nproxy-authorization: Basic YW5uOnNAZmU=\r\n" in head


async def test_a_proxy_that_makes_no_tunnel_is_no_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with upstream([b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"]) as proxy:
        place = proxy.url.partition("//")[2].partition("/")[0]
        monkeypatch.setenv("https_proxy", f"http://{place}")
        async with open_wire() as wire:
            with pytest.raises(BrokenConnection, match="403"):
                await wire.send("POST", "https://provider.invalid/v1", HEADERS, b"{}")

    assert proxy.requests[0].startswith(b"CONNECT provider.invalid:443 HTTP/1.1\r\n")


@asynccontextmanager
async def tunnelling(monkeypatch: pytest.MonkeyPatch, folder: Path) -> AsyncIterator[Tunnel]:
    """A provider behind TLS, and the proxy that leads to it whatever name is asked for."""
    pem = folder / "provider.pem"
    await asyncio.to_thread(pem.write_bytes, certificate("provider.test"))
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(pem)
    provider, tunnel = Upstream(SIZED, CHUNKED), Tunnel(pem)
    server = await asyncio.start_server(provider.serve, "127.0.0.1", 0, ssl=serving)
    tunnel.port = server.sockets[0].getsockname()[1]
    proxy = await asyncio.start_server(tunnel.serve, "127.0.0.1", 0)
    port = proxy.sockets[0].getsockname()[1]
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
    try:
        yield tunnel
    finally:
        proxy.close()
        server.close()
        await asyncio.gather(*tunnel.tasks, *provider.tasks)


class Tunnel:
    """Hands bytes on, both ways, after a CONNECT."""

    def __init__(self, pem: Path) -> None:
        self.pem = pem
        self.port = 0
        self.heads: list[bytes] = []
        self.tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.tasks.add(asyncio.current_task())  # type: ignore[arg-type]
        self.heads.append(await reader.readuntil(b"\r\n\r\n"))
        inner, outer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(_handed_on(reader, outer), _handed_on(inner, writer))


async def _handed_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


def certificate(name: str) -> bytes:
    """A key and its own certificate for this name, for a day."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    at = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - dt.timedelta(days=1))
        .not_valid_after(at + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, plain) + made.public_bytes(encoding)


async def test_tls_by_a_tunnel_checks_who_is_at_its_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with tunnelling(monkeypatch, tmp_path) as tunnel:
        async with open_wire() as wire:
            wire._tls = ssl.create_default_context(cafile=str(tunnel.pem))
            told = [await ask(wire, "https://provider.test/v1") for _ in range(2)]
            with pytest.raises(OSError, match="certificate"):
                await wire.send("POST", "https://elsewhere.test/v1", HEADERS, b"{}")
        async with open_wire() as wire:  # with the system's certificates
            with pytest.raises(OSError, match="certificate"):
                await wire.send("POST", "https://provider.test/v1", HEADERS, b"{}")

    assert told == [b"hello", b"hello"]
    asked = [head.split(b" ")[1] for head in tunnel.heads]
    assert asked == [b"provider.test:443", b"elsewhere.test:443", b"provider.test:443"]
