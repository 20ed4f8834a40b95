"""Ids: opaque, and never drawn twice, whoever draws."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

from sonia.types import new_id


def test_ids_are_their_kind_and_128_bits() -> None:
    assert re.fullmatch(r"mem_[0-9a-f]{32}", new_id("mem"))


def test_no_id_is_drawn_twice_by_threads_at_once() -> None:
    with ThreadPoolExecutor(8) as pool:
        drawn = [
            name
            for names in pool.map(lambda _: [new_id("x") for _ in range(1000)], range(16))
            for name in names
        ]

    assert len(set(drawn)) == len(drawn) == 16_000
