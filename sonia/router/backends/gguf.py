"""The header of a GGUF file, read before any engine sees the file.

llama.cpp trusts a header's numbers further than a stranger's file deserves, and ends the whole
process on some that lie. So sizes, counts and offsets are checked here against the file, and
what a model will take of memory is known before it is loaded. The format:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from sonia.errors import Unavailable
from sonia.types import Value

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MOST_KEYS = 10_000
MOST_TENSORS = 100_000
MOST_DIMENSIONS = 4
LONGEST_NAME_BYTES = 65_535
LONGEST_TEXT_BYTES = 16_777_216
MOST_ITEMS = 16_777_216
KV_BYTES = 2  # float16

_STRING, _ARRAY = 8, 9
_SCALARS = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q",
    12: "<d",
}  # fmt: skip
# ggml type → (weights per block, bytes per block)
_BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34),
    9: (32, 36), 10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210),
    15: (256, 292), 16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18),
    21: (256, 110), 22: (256, 82), 23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8),
    28: (1, 8), 29: (256, 56), 30: (1, 2), 34: (256, 54), 35: (256, 66), 39: (32, 17),
}  # fmt: skip


class ModelFileInvalid(Unavailable):
    """The file is no whole GGUF model; `details["file"]` names it."""

    retryable = False


class ModelFile(Value):
    """What the header says. `kv_bytes_per_token` is the context's memory at 16 bits."""

    architecture: str
    context_tokens: int
    kv_bytes_per_token: int
    size_bytes: int


def read_header(path: Path) -> ModelFile:
    """Check the whole header against the file. Blocks. Raises `ModelFileInvalid`."""
    try:
        with path.open("rb") as file:
            return _Header(file, path.stat().st_size).read()
    except OSError as error:
        raise _invalid(path, error.strerror or str(error)) from error
    except (ValueError, struct.error, UnicodeDecodeError) as error:
        raise _invalid(path, str(error)) from error


def _invalid(path: Path, why: str) -> ModelFileInvalid:
    return ModelFileInvalid(
        f"{path.name} is not a whole GGUF model: {why}. Fetch or copy it again.", file=str(path)
    )


class _Header:
    def __init__(self, file: BinaryIO, size_bytes: int) -> None:
        self._file = file
        self._size_bytes = size_bytes

    def read(self) -> ModelFile:
        if self._take(4) != MAGIC:
            raise ValueError("it does not begin with GGUF")
        version, tensors, keys = self._number("<I"), self._number("<Q"), self._number("<Q")
        if version not in VERSIONS:
            raise ValueError(f"its version is {version}, and {VERSIONS} are known")
        if not 0 < tensors <= MOST_TENSORS or keys > MOST_KEYS:
            raise ValueError(f"it claims {tensors} tensors and {keys} keys")
        values = dict(self._pair() for _ in range(keys))
        extents = [self._tensor() for _ in range(tensors)]
        self._check_extents(extents, values.get("general.alignment", 32))
        return _described(values, self._size_bytes)

    def _check_extents(self, extents: list[tuple[int, int]], alignment: object) -> None:
        if not isinstance(alignment, int) or not 8 <= alignment <= 65_536 or alignment % 8:
            raise ValueError(f"its alignment is {alignment}")
        begin = -(-self._file.tell() // alignment) * alignment
        end = begin + max(offset + length for offset, length in extents)
        if end > self._size_bytes:
            raise ValueError(f"its weights end at {end} bytes and the file at {self._size_bytes}")
        if any(offset % alignment for offset, _ in extents):
            raise ValueError("a tensor is not aligned")
        taken = 0
        for offset, length in sorted(extents):
            if offset < taken:
                raise ValueError("two tensors overlap")
            taken = offset + length

    def _pair(self) -> tuple[str, Any]:
        return self._text(LONGEST_NAME_BYTES), self._value(self._number("<I"))

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._text(LONGEST_TEXT_BYTES)
        if kind == _ARRAY:
            return self._skip_array()
        if kind not in _SCALARS:
            raise ValueError(f"a value has the unknown type {kind}")
        return self._number(_SCALARS[kind])

    def _skip_array(self) -> None:
        kind, count = self._number("<I"), self._number("<Q")
        if count > MOST_ITEMS:
            raise ValueError(f"a list has {count} items")
        if kind == _STRING:
            for _ in range(count):
                self._text(LONGEST_TEXT_BYTES)
        elif kind in _SCALARS:
            self._take(count * struct.calcsize(_SCALARS[kind]))
        else:
            raise ValueError(f"a list has items of type {kind}")

    def _tensor(self) -> tuple[int, int]:
        """Where its data is, and how long, below the data's begin."""
        self._text(LONGEST_NAME_BYTES)
        dimensions = self._number("<I")
        if not 0 < dimensions <= MOST_DIMENSIONS:
            raise ValueError(f"a tensor has {dimensions} dimensions")
        shape = [self._number("<Q") for _ in range(dimensions)]
        kind, offset = self._number("<I"), self._number("<Q")
        per_block, block_bytes = _BLOCKS.get(kind, (0, 0))
        if not per_block or not all(0 < side < 2**40 for side in shape) or shape[0] % per_block:
            raise ValueError(f"a tensor has type {kind} and shape {shape}")
        length = block_bytes * (shape[0] // per_block)
        for side in shape[1:]:
            length *= side
        return offset, length

    def _text(self, longest: int) -> str:
        length = self._number("<Q")
        if length > longest:
            raise ValueError(f"a text has {length} bytes")
        return self._take(length).decode()

    def _number(self, form: str) -> Any:
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _take(self, count: int) -> bytes:
        data = self._file.read(count)
        if len(data) != count:
            raise ValueError("it ends within its header")
        return data


def _described(values: dict[str, Any], size_bytes: int) -> ModelFile:
    architecture = values.get("general.architecture")
    if not isinstance(architecture, str):
        raise ValueError("it does not name its architecture")

    def number(key: str, default: int = 0) -> int:
        found = values.get(f"{architecture}.{key}", default)
        return found if isinstance(found, int) else default

    layers, heads = number("block_count"), number("attention.head_count")
    width, context_tokens = number("embedding_length"), number("context_length")
    if not (layers > 0 and heads > 0 and width > 0 and context_tokens > 0):
        raise ValueError(f"it lacks the sizes of a {architecture} model that writes text")
    per_head = width // heads
    heads_kept = number("attention.head_count_kv", heads)
    kept = number("attention.key_length", per_head) + number("attention.value_length", per_head)
    return ModelFile(
        architecture=architecture,
        context_tokens=context_tokens,
        kv_bytes_per_token=layers * heads_kept * kept * KV_BYTES,
        size_bytes=size_bytes,
    )


def model_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """The GGUF files of a folder by name (`Tiny-Q4.gguf` is `tiny-q4`), in order. Blocks."""
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() == ".gguf" and path.is_file():
                yield path.stem.lower().replace(" ", "-"), path
