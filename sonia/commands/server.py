"""The running server, as commands see it. Plain `http.client`: it is there in no time."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sonia.config import Config, Secret
from sonia.errors import ConfigurationError, SoniaError, Unavailable, UpstreamError
from sonia.keys import FILE_NAME
from sonia.running import Running, read

GATEWAY = "api-gateway"
TIMEOUT_S = 15.0
MAX_ANSWER_BYTES = 64 * 1024 * 1024


class NotRunning(Unavailable):
    """Nobody serves this data folder."""

    exit_status = 3


class Refused(SoniaError):
    """The server answered with an error; `message` is its own, `details["code"]` its code."""


def operator_token(data: Path) -> Secret:
    """The credential for answering approvals. Raises `ConfigurationError`."""
    path = data / "operator.token"
    try:
        token = Secret(path.read_text(encoding="ascii"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"The operator's token can't be read: {error}. The first `sonia serve` makes it, and "
            "only the user who serves can read it.",
            path=str(path),
        ) from error
    if not token:
        raise ConfigurationError(f"{path} is empty. Delete it, and `sonia serve` makes a new one.")
    return token


class Server:
    """Calls to one running Sonia."""

    def __init__(self, running: Running, key: Secret | None = None) -> None:
        self.running = running
        self._sent = {"Authorization": f"Bearer {key.reveal()}"} if key else {}

    @classmethod
    def find(cls, config: Config) -> Server:
        """The server of this data folder. Raises `NotRunning`."""
        running = read(config.data)
        if running is None:
            raise NotRunning(
                f"Sonia is not running (data folder {config.data}). "
                "Start her in another terminal: sonia serve"
            )
        guarded = config.services.api_gateway.api_keys or (config.data / FILE_NAME).exists()
        return cls(running, operator_token(config.data) if guarded else None)

    @property
    def headers(self) -> dict[str, str]:
        """What every request of ours says."""
        return dict(self._sent)

    def get(self, path: str, *, token: Secret | None = None) -> Any:
        """The `data` of the answer. Raises `Refused`, `Unavailable`."""
        headers = {"Authorization": f"Bearer {token.reveal()}"} if token else {}
        return self._call("GET", path, headers=headers)

    def post(
        self,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        token: Secret | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Any:
        """The `data` of the answer. Raises `Refused`, `Unavailable`."""
        headers = {"Authorization": f"Bearer {token.reveal()}"} if token else {}
        return self._call("POST", path, dict(body or {}), headers, timeout_s)

    def put(self, path: str, body: Mapping[str, Any], *, token: Secret) -> Any:
        """The `data` of the answer. Raises `Refused`, `Unavailable`."""
        headers = {"Authorization": f"Bearer {token.reveal()}"}
        return self._call("PUT", path, dict(body), headers)

    def delete(
        self, path: str, *, token: Secret | None = None, timeout_s: float = TIMEOUT_S
    ) -> Any:
        """The `data` of the answer. Raises `Refused`, `Unavailable`."""
        headers = {"Authorization": f"Bearer {token.reveal()}"} if token else {}
        return self._call("DELETE", path, headers=headers, timeout_s=timeout_s)

    def bare(self, service: str, path: str, timeout_s: float = 3.0) -> tuple[int, Any]:
        """Status and JSON of a route without envelope, on a service's own port."""
        with closing(self._connect(service, timeout_s)) as line, _translated(self.running):
            line.request("GET", path, headers=self._sent)
            answer = line.getresponse()
            return answer.status, _json(answer.read(MAX_ANSWER_BYTES))

    @contextmanager
    def events(self, path: str, body: Mapping[str, Any]) -> Iterator[Iterator[tuple[str, Any]]]:
        """Enter to POST and read server-sent events, as (name, data); leave to hang up."""
        with closing(self._connect(GATEWAY, TIMEOUT_S)) as line:
            with _translated(self.running):
                headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
                headers |= self._sent
                line.request("POST", path, json.dumps(body).encode(), headers)
                if line.sock:
                    line.sock.settimeout(None)  # a model may think for long
                answer = line.getresponse()
                if answer.status != 200:
                    _unwrapped(answer.status, answer.read(MAX_ANSWER_BYTES))
            yield _events(answer, self.running)

    @contextmanager
    def bytes(
        self, path: str, body: Iterable[bytes] | bytes, headers: Mapping[str, str]
    ) -> Iterator[http.client.HTTPResponse]:
        """Enter to POST `body` and read an answer that is no envelope. Raises `Refused`."""
        with closing(self._connect(GATEWAY, TIMEOUT_S)) as line:
            with _translated(self.running):
                line.request("POST", path, body, dict(headers))
                if line.sock:
                    line.sock.settimeout(None)  # a long recording takes its time
                answer = line.getresponse()
                if answer.status != 200:
                    _unwrapped(answer.status, answer.read(MAX_ANSWER_BYTES))
            yield answer

    def _call(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Any:
        sent = json.dumps(body).encode() if body is not None else None
        kind = {"Content-Type": "application/json"} if sent is not None else {}
        with closing(self._connect(GATEWAY, timeout_s)) as line:
            with _translated(self.running):
                line.request(method, path, sent, {**self._sent, **kind, **(headers or {})})
                answer = line.getresponse()
                content = answer.read(MAX_ANSWER_BYTES)
            return _unwrapped(answer.status, content)

    def _connect(self, service: str, timeout_s: float) -> http.client.HTTPConnection:
        port = self.running.ports.get(service)
        if port is None:
            raise Unavailable(
                f"The running Sonia (pid {self.running.pid}) does not serve {service}: "
                "she was started with --only."
            )
        return http.client.HTTPConnection(self.running.host, port, timeout=timeout_s)


@contextmanager
def _translated(running: Running) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as error:  # the server's pipe: must not be taken for our own output's
        raise Unavailable(f"Sonia (pid {running.pid}) hung up.") from error
    except (OSError, http.client.HTTPException) as error:
        why = str(error) or type(error).__name__
        raise Unavailable(f"Sonia (pid {running.pid}) does not answer: {why}.") from error


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError as error:
        raise UpstreamError("The answer is not JSON; another program may hold the port.") from error


def _unwrapped(status: int, content: bytes) -> Any:
    envelope = _json(content)
    failure = envelope.get("error") if isinstance(envelope, dict) else None
    if not isinstance(envelope, dict) or ("ok" not in envelope and not isinstance(failure, dict)):
        raise UpstreamError(f"An answer with status {status} that is not Sonia's.")
    if not envelope.get("ok"):
        failure = failure or {}
        raise Refused(
            str(failure.get("message") or f"refused with status {status}"),
            code=failure.get("code"),
        )
    return envelope.get("data")


def _events(answer: http.client.HTTPResponse, running: Running) -> Iterator[tuple[str, Any]]:
    name, data = "", []
    while True:
        with _translated(running):
            line = answer.readline(MAX_ANSWER_BYTES).decode()
        if not line:
            return
        field, _, value = line.rstrip("\r\n").partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "data":
            data.append(value)
        elif line in ("\n", "\r\n") and data:
            yield name, _json("\n".join(data).encode())
            name, data = "", []
