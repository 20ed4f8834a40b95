"""all-MiniLM-L6-v2 as an int8 CTranslate2 encoder, made from its safetensors with numpy.

The result is kept beside the weights, in a folder named for the source's hash and this recipe,
with the hash of what was written: anything else found there is built anew.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from sonia.errors import Unavailable
from sonia.types import Value

RECIPE = 1
LAYERS, HEADS, DIMENSIONS = 6, 12, 384
LAYER_NORM_EPSILON = 1e-12

Tensors = dict[str, NDArray[np.float32]]


class Built(Value):
    """What a finished folder says of itself."""

    recipe: int
    source_sha256: str
    model_sha256: str


def encoder_folder(safetensors: Path, tokenizer: Path) -> Path:
    """The folder of the encoder, building it when it is missing or damaged. Blocks.

    Raises `Unavailable` when the folder can't be written.
    """
    source = _sha256(safetensors)
    folder = safetensors.parent / f"int8-{source[:16]}-{RECIPE}"
    if _whole(folder, source):
        return folder
    try:
        shutil.rmtree(folder, ignore_errors=True)
        making = Path(tempfile.mkdtemp(prefix=".making-", dir=safetensors.parent))
        try:
            _build(safetensors, tokenizer, making)
            built = Built(
                recipe=RECIPE, source_sha256=source, model_sha256=_sha256(making / "model.bin")
            )
            (making / "built.json").write_bytes(msgspec.json.encode(built))
            making.rename(folder)
        finally:
            shutil.rmtree(making, ignore_errors=True)
    except OSError as error:
        if _whole(folder, source):  # another process was quicker
            return folder
        raise Unavailable(f"The embedding model can't be kept in {folder}: {error}") from error
    return folder


def read_safetensors(path: Path) -> Tensors:
    """Every float32 tensor of the file."""
    data = bytearray(path.read_bytes())  # writable: CTranslate2 scales in place
    begin = 8 + int.from_bytes(data[:8], "little")
    tensors: Tensors = {}
    for name, entry in msgspec.json.decode(data[8:begin]).items():
        if name != "__metadata__" and entry["dtype"] == "F32":
            start, end = entry["data_offsets"]
            flat = np.frombuffer(data, np.float32, (end - start) // 4, begin + start)
            tensors[name] = flat.reshape(entry["shape"])
    return tensors


def _whole(folder: Path, source_sha256: str) -> bool:
    try:
        built = msgspec.json.decode((folder / "built.json").read_bytes(), type=Built)
        found = _sha256(folder / "model.bin")
    except (OSError, msgspec.MsgspecError):
        return False
    return (built.source_sha256, built.model_sha256) == (source_sha256, found)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _build(safetensors: Path, tokenizer: Path, folder: Path) -> None:
    from ctranslate2.specs import common_spec, transformer_spec

    encoder = transformer_spec.TransformerEncoderSpec(
        LAYERS,
        HEADS,
        pre_norm=False,
        activation=common_spec.Activation.GELU,
        layernorm_embedding=True,
        num_source_embeddings=2,
        embeddings_merge=common_spec.EmbeddingsMerge.ADD,
    )
    tensors = read_safetensors(safetensors)
    _fill(encoder, {name.removeprefix("bert."): tensor for name, tensor in tensors.items()})
    model = transformer_spec.TransformerEncoderModelSpec(encoder)
    vocabulary = msgspec.json.decode(tokenizer.read_bytes())["model"]["vocab"]
    model.register_vocabulary(sorted(vocabulary, key=vocabulary.__getitem__))
    model.config.layer_norm_epsilon = LAYER_NORM_EPSILON
    model.config.unk_token = "[UNK]"  # noqa: S105  a token of the vocabulary
    model.validate()
    model.optimize(quantization="int8")
    model.save(str(folder))


def _fill(encoder: Any, tensors: Tensors) -> None:
    encoder.scale_embeddings = False
    encoder.embeddings[0].weight = tensors["embeddings.word_embeddings.weight"]
    encoder.embeddings[1].weight = tensors["embeddings.token_type_embeddings.weight"]
    encoder.position_encodings.encodings = tensors["embeddings.position_embeddings.weight"]
    _norm(encoder.layernorm_embedding, tensors, "embeddings.LayerNorm")
    for index, layer in enumerate(encoder.layer):
        at = f"encoder.layer.{index}"
        qkv = [f"{at}.attention.self.{part}" for part in ("query", "key", "value")]
        _linear(layer.self_attention.linear[0], tensors, *qkv)
        _linear(layer.self_attention.linear[1], tensors, f"{at}.attention.output.dense")
        _norm(layer.self_attention.layer_norm, tensors, f"{at}.attention.output.LayerNorm")
        _linear(layer.ffn.linear_0, tensors, f"{at}.intermediate.dense")
        _linear(layer.ffn.linear_1, tensors, f"{at}.output.dense")
        _norm(layer.ffn.layer_norm, tensors, f"{at}.output.LayerNorm")


def _linear(spec: Any, tensors: Tensors, *names: str) -> None:
    spec.weight = np.concatenate([tensors[f"{name}.weight"] for name in names])
    spec.bias = np.concatenate([tensors[f"{name}.bias"] for name in names])


def _norm(spec: Any, tensors: Tensors, name: str) -> None:
    spec.gamma, spec.beta = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
