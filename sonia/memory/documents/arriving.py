"""The body of an ingest: JSON, or a form with a file, taken as it arrives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, BinaryIO, Protocol

import msgspec
from multipart import (
    MultipartError,
    MultipartSegment,
    PushMultipartParser,
    parse_options_header,
)

from sonia.client import ClientGone
from sonia.errors import InvalidRequest, PayloadTooLarge
from sonia.memory.documents.interface import (
    DocumentName,
    DocumentSource,
    Incoming,
    MediaType,
    NewDocument,
    Title,
)
from sonia.memory.interface import Name
from sonia.types import Value

JSON, FORM = "application/json", "multipart/form-data"
MAX_JSON_BYTES = 8 * 1024 * 1024
MAX_FIELD_BYTES = 8_192
MAX_PARTS = 16
READ_BYTES = 1_048_576
ANY_TYPE = "application/octet-stream"

Receive = Callable[[], Awaitable[Any]]


class Files(Protocol):
    """The workspace, as far as documents need it. Blocks: call it in a thread."""

    def open(self, path: str) -> BinaryIO:
        """A file of the workspace. Raises what says why it can't be had."""
        ...


class IngestBody(Value):
    """`POST /v1/workspace/ingest` as JSON: either `content` or `path`, a file of the workspace."""

    content: str | None = None
    path: DocumentSource | None = None
    name: DocumentName = ""
    title: Title | None = None
    media_type: MediaType | None = None
    source: DocumentSource | None = None
    user_id: Name = "owner"
    session_id: Name | None = None
    mine: bool = False


async def arrived(
    receive: Receive, content_type: str, incoming: Incoming, files: Files | None
) -> NewDocument:
    """Write the file to `incoming`; return what was said of it. Raises `ClientGone`."""
    kind, options = parse_options_header(content_type)
    if kind == FORM:
        return await _form(receive, options.get("boundary", ""), incoming)
    body = await _json(receive)
    if (body.content is None) == (body.path is None):
        raise InvalidRequest(
            "Give either content (text) or path (of a file in the workspace). To send a file, "
            "use multipart/form-data with the file in the field 'file'."
        )
    if body.content is not None:
        await _text(body.content, incoming)
    elif body.path is not None:
        await _workspace_file(body.path, incoming, files)
    return NewDocument(
        name=body.name or body.path or "",
        media_type=body.media_type,
        title=body.title,
        source=body.source or body.path,
        user_id=body.user_id,
        session_id=body.session_id,
        mine=body.mine,
    )


async def _pieces(receive: Receive) -> AsyncIterator[bytes]:
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone("The client went away; nothing was kept.")
        if data := message.get("body", b""):
            yield data
        more = message.get("more_body", False)


async def _json(receive: Receive) -> IngestBody:
    size, held = 0, []
    async for data in _pieces(receive):
        size += len(data)
        if size > MAX_JSON_BYTES:
            raise PayloadTooLarge(
                f"JSON may have {MAX_JSON_BYTES} bytes here. Send the document as "
                "multipart/form-data, in the field 'file'.",
                limit_bytes=MAX_JSON_BYTES,
            )
        held.append(data)
    try:
        return await asyncio.to_thread(msgspec.json.decode, b"".join(held), type=IngestBody)
    except msgspec.MsgspecError as error:
        raise InvalidRequest(f"{error}.") from error
    except UnicodeDecodeError as error:
        raise InvalidRequest("The body is not valid UTF-8. Send JSON encoded as UTF-8.") from error


async def _text(content: str, incoming: Incoming) -> None:
    try:
        data = await asyncio.to_thread(content.encode)
    except UnicodeEncodeError as error:
        raise InvalidRequest(
            "content must be valid Unicode, without lone surrogates.", pointer="/content"
        ) from error
    await incoming.write(data)


async def _workspace_file(path: str, incoming: Incoming, files: Files | None) -> None:
    if files is None:
        raise InvalidRequest("There is no workspace here. Send the file.", pointer="/path")
    file = await asyncio.to_thread(files.open, path)
    try:
        while data := await asyncio.to_thread(file.read, READ_BYTES):
            await incoming.write(data)
    finally:
        await asyncio.to_thread(file.close)


class _Form:
    """What was found in a form so far."""

    def __init__(self) -> None:
        self.fields: dict[str, bytes] = {}
        self.files = 0
        self.name = ""
        self.media_type: str | None = None
        self.part: MultipartSegment | None = None

    def begin(self, part: MultipartSegment) -> None:
        self.part = part
        if part.name == "file":
            self.files += 1
            self.name = (part.filename or "").replace("\\", "/").rpartition("/")[2]
            said = part.content_type
            self.media_type = None if not said or said == ANY_TYPE else said
        elif part.name in self.fields:
            raise InvalidRequest(f"The field '{part.name}' comes twice.", pointer=f"/{part.name}")
        else:
            self.fields[part.name] = b""
        if self.files > 1:
            raise InvalidRequest("Send one file at a time, in the field 'file'.", pointer="/file")

    def extend(self, data: bytes) -> None:
        name = self.part.name if self.part else ""
        self.fields[name] += data
        if len(self.fields[name]) > MAX_FIELD_BYTES:
            raise InvalidRequest(
                f"The field '{name}' is over {MAX_FIELD_BYTES} bytes. Only 'file' may be large.",
                pointer=f"/{name}",
            )

    def said(self) -> NewDocument:
        if not self.files:
            raise InvalidRequest("There is no file. Send it in the field 'file'.", pointer="/file")
        given: dict[str, Any] = {"name": self.name, "media_type": self.media_type}
        try:
            given |= {name: value.decode() for name, value in self.fields.items() if value}
        except UnicodeDecodeError as error:
            raise InvalidRequest("The fields of the form must be UTF-8.") from error
        if "mine" in given:
            given["mine"] = {"true": True, "false": False}.get(given["mine"], given["mine"])
        try:
            return msgspec.convert(given, NewDocument)
        except msgspec.ValidationError as error:
            raise InvalidRequest(f"{error}.") from error


async def _form(receive: Receive, boundary: str, incoming: Incoming) -> NewDocument:
    if not boundary:
        raise InvalidRequest("The content type names no boundary: multipart/form-data; boundary=…")
    form = _Form()
    try:
        parser = PushMultipartParser(boundary, max_segment_count=MAX_PARTS)
        async for data in _pieces(receive):
            await _take(parser, data, form, incoming)
        await _take(parser, b"", form, incoming)
    except (MultipartError, ValueError) as error:
        raise InvalidRequest(f"The form can't be read: {error}.") from error
    return form.said()


async def _take(parser: PushMultipartParser, data: bytes, form: _Form, incoming: Incoming) -> None:
    for found in parser.parse(data):
        if isinstance(found, MultipartSegment):
            form.begin(found)
        elif found is not None and form.part is not None:
            if form.part.name == "file":
                await incoming.write(bytes(found))
            else:
                form.extend(bytes(found))
