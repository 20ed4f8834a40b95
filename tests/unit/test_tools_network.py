"""The way out: nothing of this house is ever dialled, however it is spelled or redirected to."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import zlib
from pathlib import Path

import psutil
import pytest

from sonia.errors import SoniaError, UpstreamError
from sonia.tools.addresses import parse
from sonia.tools.network import EgressDenied, GuardedClient, Reach, Receipt
from sonia.tools.network.client import FetchFailed, FetchTimeout
from sonia.tools.network.reach import public
from tests.web_given import PUBLIC, Dialler, numeric_or_public, page, serving

SECURITY = Path(__file__).parents[3] / "shared" / "data" / "security"
HOUSE = (
    "127.0.0.1", "127.8.9.1", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254",
    "100.64.0.1", "192.0.0.1", "192.0.2.1", "198.18.0.1", "203.0.113.9", "224.0.0.1", "240.0.0.1",
    "255.255.255.255", "192.88.99.1", "::", "::1", "::ffff:127.0.0.1", "::ffff:8.8.8.8",
    "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::1", "2002:7f00:1::", "2001::1", "fe80::1",
    "fe80::1%lo", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1", "100::1", "fec0::1",
    "3fff::1", "5f00::1",
)  # fmt: skip
SPELLINGS = (
    "http://127.0.0.1/", "http://127.1/", "http://0x7f000001/", "http://2130706433/",
    "http://017700000001/", "http://[::1]/", "http://[::ffff:127.0.0.1]/", "http://localhost/",
    "http://LOCALHOST./", "http://①②⑦.⓪.⓪.①/", "http://127。0。0。1/", "http://0/",
    "http://[64:ff9b::7f00:1]/", "http://a@127.0.0.1/", "http://127.0.0.1:22/", "ftp://127.0.0.1/",
    "http://169.254.169.254/latest/meta-data/", "file:///etc/passwd", "gopher://127.0.0.1/",
    "http://127.0.0.1#@example.org/", "http://example.org:80@127.0.0.1/", "http://[::]:80/",
    "http:127.0.0.1", "//127.0.0.1/", "http://example.org\\@127.0.0.1/", "http://[fe80::1%25lo]/",
)  # fmt: skip


def hostile_urls() -> list[str]:
    found = set(SPELLINGS)
    if SECURITY.is_dir():
        for file in (SECURITY / "ssrf").glob("*.txt"):
            found |= set(file.read_text(encoding="utf-8").splitlines())
        rows = (SECURITY / "ssrf" / "generated_ip_spellings.jsonl").read_text().splitlines()
        found |= {json.loads(row)["url"] for row in rows}
        tests = json.loads((SECURITY / "url" / "urltestdata.json").read_text())
        found |= {test["input"] for test in tests if isinstance(test, dict)}
    return sorted(found)


async def get(client: GuardedClient, url: str, receipt: Receipt | None = None, **more: object):  # type: ignore[no-untyped-def]
    limits = {"limit_s": 30.0, "max_bytes": 100_000, **more}
    return await client.get(parse(url), receipt or Receipt(), **limits)  # type: ignore[arg-type]


@pytest.mark.parametrize("address", HOUSE)
def test_t29_an_address_of_this_house_or_of_nobody_is_not_public(address: str) -> None:
    assert not public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", [PUBLIC, "8.8.8.8", "2606:4700:4700::1111", "2a00:1450::1"])
def test_t29_an_address_of_the_internet_is_public(address: str) -> None:
    assert public(ipaddress.ip_address(address))


async def test_t29_of_all_hostile_spellings_none_dials_anything_but_a_public_address() -> None:
    dialler = Dialler()
    client = GuardedClient(Reach(), resolve=numeric_or_public, dial=dialler)
    refused = 0

    for url in hostile_urls():
        try:
            await get(client, url)
        except SoniaError as error:
            refused += not isinstance(error, FetchFailed)

    assert refused >= len(SPELLINGS) - 2
    for host, port in dialler.dialled:
        assert ipaddress.ip_address(host).is_global
        assert port in (80, 443)


async def test_t30_a_name_is_looked_up_once_and_refused_when_any_answer_is_of_this_house() -> None:
    asked = 0

    async def changing(host: str, port: int) -> list[str]:
        nonlocal asked
        asked += 1
        return {0: [PUBLIC], 1: ["127.0.0.1"], 2: [PUBLIC, "10.0.0.1"]}[asked % 3]

    dialler = Dialler()
    client = GuardedClient(Reach(), resolve=changing, dial=dialler)

    for _ in range(99):
        with pytest.raises((EgressDenied, FetchFailed)):
            await get(client, "http://rebinding.example/")

    assert asked == 99
    assert dialler.dialled == [(PUBLIC, 80)] * 33


@pytest.mark.parametrize(
    ("reach", "url", "resolved", "admitted"),
    [
        (Reach(mode="offline"), "http://a.example/", PUBLIC, False),
        (Reach(mode="offline", hosts=("a.example",)), "http://a.example/", PUBLIC, False),
        (Reach(mode="lan"), "http://nas.example:8123/", "192.168.1.5", True),
        (Reach(mode="lan"), "http://a.example/", PUBLIC, False),
        (Reach(mode="lan"), "http://a.example/", "127.0.0.1", False),
        (Reach(mode="lan"), "http://a.example/", "169.254.169.254", False),
        (Reach(mode="allow-list", hosts=("a.example",)), "http://a.example/", PUBLIC, True),
        (Reach(mode="allow-list", hosts=("a.example",)), "http://A.EXAMPLE./", PUBLIC, True),
        (Reach(mode="allow-list", hosts=("a.example",)), "http://a.example/", "10.0.0.1", False),
        (Reach(mode="allow-list", hosts=("a.example",)), "http://b.a.example/", PUBLIC, False),
        (Reach(mode="allow-list", hosts=("a.example",)), "http://a.example:81/", PUBLIC, False),
        (Reach(mode="allow-list", hosts=("*.a.example",)), "http://b.a.example/", PUBLIC, True),
        (Reach(mode="allow-list", hosts=("*.a.example",)), "http://xa.example/", PUBLIC, False),
        (Reach(mode="allow-list", hosts=("a.example:81",)), "http://a.example:81/", PUBLIC, True),
        (Reach(mode="allow-list"), "http://a.example/", PUBLIC, False),
        (Reach(hosts=("a.example:81",)), "http://a.example:81/", PUBLIC, True),
        (Reach(), "http://a.example:81/", PUBLIC, False),
        (Reach(), "http://a.example/", PUBLIC, True),
    ],
)
async def test_egress_reaches_as_far_as_its_mode(
    reach: Reach, url: str, resolved: str, admitted: bool
) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        return [resolved]

    dialler = Dialler()

    with pytest.raises(FetchFailed if admitted else EgressDenied):
        await get(GuardedClient(reach, resolve=resolve, dial=dialler), url)

    assert bool(dialler.dialled) == admitted


@pytest.mark.parametrize(
    "location",
    ["http://127.0.0.1:7050/approve", "http://127.0.0.1/", "file:///etc/passwd", "http://[::1]/",
     "http://u:p@b.example/", "//0x7f000001/", "http://b.example:22/", "javascript:alert(1)",
     "http://10.0.0.1/"],
)  # fmt: skip
async def test_t31_a_redirect_into_this_house_is_not_followed(location: str) -> None:
    async def serve(target: str, headers: dict[str, str], writer: asyncio.StreamWriter) -> None:
        writer.write(page(b"", f"Location: {location}", status="302 Found"))

    async with serving(serve) as port:
        dialler = Dialler(port)
        client = GuardedClient(Reach(), resolve=numeric_or_public, dial=dialler)
        with pytest.raises(EgressDenied):
            await get(client, "http://a.example/start")

    assert dialler.dialled == [(PUBLIC, 80)]


async def test_t31_headers_with_credentials_go_to_the_first_origin_only() -> None:
    seen: list[tuple[str, str | None]] = []

    async def serve(target: str, headers: dict[str, str], writer: asyncio.StreamWriter) -> None:
        seen.append((headers["host"] + target, headers.get("x-api-key")))
        following = {"/1": "/2", "/2": "http://b.example/3", "/3": "http://a.example/4"}
        if target in following:
            writer.write(page(b"", f"Location: {following[target]}", status="307 T"))
        else:
            writer.write(page(b"end"))

    receipt = Receipt()
    async with serving(serve) as port:
        client = GuardedClient(Reach(), resolve=numeric_or_public, dial=Dialler(port))
        found = await get(client, "http://a.example/1", receipt, headers={"X-Api-Key": "canary"})

    assert found.content == b"end"
    assert found.url == "http://a.example/4"
    assert seen == [
        ("a.example/1", "canary"),
        ("a.example/2", "canary"),
        ("b.example/3", None),
        ("a.example/4", None),
    ]
    assert [(line.url, line.address) for line in receipt.sent()] == [
        (f"http://{place}", PUBLIC) for place, _ in seen
    ]
    assert all(line.sent_bytes > 20 and line.received_bytes > 20 for line in receipt.sent())


async def test_t31_a_ring_of_redirects_ends() -> None:
    async def serve(target: str, headers: dict[str, str], writer: asyncio.StreamWriter) -> None:
        writer.write(page(b"", f"Location: {target}x", status="301 Moved"))

    async with serving(serve) as port:
        dialler = Dialler(port)
        client = GuardedClient(Reach(), resolve=numeric_or_public, dial=dialler)
        with pytest.raises(FetchFailed, match="redirects more than"):
            await get(client, "http://a.example/")

    assert len(dialler.dialled) == 6


async def test_t32_a_body_that_unpacks_to_gigabytes_stops_at_the_limit() -> None:
    sent = 0

    async def serve(target: str, headers: dict[str, str], writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS + 16)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n")
        for _ in range(10_000):  # 10 GB
            writer.write(packer.compress(bytes(1_000_000)))
            sent += 1_000_000
            await writer.drain()
            await asyncio.sleep(0)

    before = psutil.Process().memory_info().rss
    async with serving(serve) as port:
        client = GuardedClient(Reach(), resolve=numeric_or_public, dial=Dialler(port))
        found = await get(client, "http://a.example/", max_bytes=1_000_000)

    assert found.truncated
    assert len(found.content) == 1_000_000
    assert sent < 10_000_000_000
    assert psutil.Process().memory_info().rss - before < 50_000_000


async def test_t32_an_endless_body_a_drip_and_endless_headers_end() -> None:
    async def serve(target: str, headers: dict[str, str], writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        if target == "/headers":
            for number in range(100_000):
                writer.write(b"X-%d: y\r\n" % number)
        writer.write(b"\r\n")
        while target == "/endless":
            writer.write(bytes(65_536))
            await writer.drain()
        await asyncio.Event().wait()

    async with serving(serve) as port:
        client = GuardedClient(Reach(), resolve=numeric_or_public, dial=Dialler(port))
        endless = await get(client, "http://a.example/endless", max_bytes=200_000)
        with pytest.raises(FetchFailed):
            await get(client, "http://a.example/headers")
        with pytest.raises(FetchTimeout):
            await get(client, "http://a.example/drip", limit_s=0.2)

    assert endless.truncated
    assert len(endless.content) == 200_000


async def test_an_encoding_that_was_not_asked_for_is_refused() -> None:
    async def serve(target: str, headers: dict[str, str], writer: asyncio.StreamWriter) -> None:
        assert headers["accept-encoding"] == "gzip"
        broken = {"/gzip": "gzip", "/br": "br"}[target]
        writer.write(page(b"\x0b\x02\x80", f"Content-Encoding: {broken}"))

    async with serving(serve) as port:
        client = GuardedClient(Reach(), resolve=numeric_or_public, dial=Dialler(port))
        for target in ("/gzip", "/br"):
            with pytest.raises(UpstreamError):
                await get(client, f"http://a.example{target}")


async def test_the_owners_own_server_may_be_on_this_machine_and_only_that_one() -> None:
    async def serve(target: str, headers: dict[str, str], writer: asyncio.StreamWriter) -> None:
        following = "http://127.0.0.1:7050/x" if target == "/moves" else ""
        more = [f"Location: {following}"] if following else []
        writer.write(page(b"own", *more, status="302 F" if following else "200 OK"))

    async with serving(serve) as port:
        own = parse(f"http://127.0.0.1:{port}/")
        client = GuardedClient(Reach(mode="allow-list"))
        found = await get(client, f"http://127.0.0.1:{port}/", own=own)
        with pytest.raises(EgressDenied):
            await get(client, f"http://127.0.0.1:{port}/moves", own=own)
        with pytest.raises(EgressDenied):
            await get(GuardedClient(Reach(mode="offline")), f"http://127.0.0.1:{port}/", own=own)

    assert found.content == b"own"
