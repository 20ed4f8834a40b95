"""A stranger's GGUF file, before any engine sees it."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonia.router.backends.gguf import ModelFileInvalid, model_files, read_header

U32, F32, STRING, ARRAY = 4, 6, 8, 9


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def key(name: str, value: int | str) -> bytes:
    if isinstance(value, str):
        return text(name) + struct.pack("<I", STRING) + text(value)
    return text(name) + struct.pack("<II", U32, value)


def tensor(name: str, shape: tuple[int, ...], offset: int, kind: int = 0) -> bytes:
    sides = b"".join(struct.pack("<Q", side) for side in shape)
    return text(name) + struct.pack("<I", len(shape)) + sides + struct.pack("<IQ", kind, offset)


KEYS = (
    key("general.architecture", "llama"),
    key("llama.block_count", 2),
    key("llama.attention.head_count", 4),
    key("llama.attention.head_count_kv", 2),
    key("llama.embedding_length", 64),
    key("llama.context_length", 2048),
    text("tokens") + struct.pack("<IIQ", ARRAY, STRING, 2) + text("a") + text("b"),
)
TENSORS = (tensor("one", (8, 4), 0), tensor("two", (8,), 128))


def gguf(
    keys: tuple[bytes, ...] = KEYS,
    tensors: tuple[bytes, ...] = TENSORS,
    *,
    weights: int = 160,
    magic: bytes = b"GGUF",
    version: int = 3,
    tensor_count: int | None = None,
    key_count: int | None = None,
) -> bytes:
    counts = (tensor_count or len(tensors), key_count or len(keys))
    head = magic + struct.pack("<IQQ", version, *counts) + b"".join(keys) + b"".join(tensors)
    return head + bytes(-len(head) % 32) + bytes(weights)


def written(folder: Path, data: bytes) -> Path:
    path = folder / "Tiny.gguf"
    path.write_bytes(data)
    return path


def test_a_whole_file_says_what_it_will_take(tmp_path: Path) -> None:
    header = read_header(written(tmp_path, gguf()))

    assert (header.architecture, header.context_tokens) == ("llama", 2048)
    assert header.kv_bytes_per_token == 2 * 2 * (16 + 16) * 2  # layers, heads, key + value, float16


def test_the_shipped_catalogues_models_pass() -> None:
    folder = Path("~/.cache/sonia/models").expanduser()
    files = sorted(folder.glob("*/*.gguf"))
    if not files:
        pytest.skip("no weights here")

    for path in files:
        assert read_header(path).size_bytes == path.stat().st_size


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GGUF",
        b"\x80\x04pickle" + bytes(200),
        gguf(magic=b"GGML"),
        gguf(version=99),
        gguf(tensor_count=2**60),
        gguf(key_count=2**60),
        gguf(weights=159),
        gguf(weights=0),
        gguf()[:-100],
        gguf(tensors=(tensor("one", (2**39, 2**39), 0),)),
        gguf(tensors=(tensor("one", (8,), 2**62),)),
        gguf(tensors=(tensor("one", (8,), 7),)),
        gguf(tensors=(tensor("one", (32,), 0), tensor("two", (32,), 0))),
        gguf(tensors=(tensor("one", (8,), 0, kind=250),)),
        gguf(tensors=(tensor("one", (8,) * 9, 0),)),
        gguf(tensors=(tensor("one", (0,), 0),)),
        gguf(keys=KEYS[1:]),
        gguf(keys=KEYS[:1]),
        gguf(keys=(*KEYS[:1], struct.pack("<Q", 2**50))),
        gguf(keys=(*KEYS, text("x") + struct.pack("<IIQ", ARRAY, F32, 2**50))),
        gguf(keys=(*KEYS, text("x") + struct.pack("<IIQ", ARRAY, ARRAY, 1))),
        gguf(keys=(*KEYS, key("general.alignment", 3))),
        gguf(keys=(*KEYS, text("x") + struct.pack("<I", 77))),
    ],
)
def test_t47_a_header_that_lies_is_refused_by_name(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(ModelFileInvalid, match=r"Tiny\.gguf"):
        read_header(written(tmp_path, data))


@settings(max_examples=200, deadline=None)
@given(at=st.integers(0, len(gguf()) - 161), value=st.integers(0, 255))
def test_t47_no_byte_of_a_header_can_do_more_than_be_refused(
    tmp_path_factory: pytest.TempPathFactory, at: int, value: int
) -> None:
    data = bytearray(gguf())
    data[at] = value
    path = written(tmp_path_factory.mktemp("gguf"), bytes(data))

    try:
        header = read_header(path)
    except ModelFileInvalid:
        return
    assert header.kv_bytes_per_token >= 0


def test_a_folders_models_are_named_for_their_files(tmp_path: Path) -> None:
    for name in ("Tiny Q4.gguf", "other.GGUF", "readme.md"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.gguf").mkdir()

    assert [name for name, _ in model_files(tmp_path)] == ["tiny-q4", "other"]
    assert not list(model_files(tmp_path / "nowhere"))
