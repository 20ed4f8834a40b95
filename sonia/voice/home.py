"""The door for Home Assistant, opened only where it is asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from sonia.config import Pipecat
from sonia.errors import ConfigurationError
from sonia.voice.interface import Responder
from sonia.voice.speech import Speech


@asynccontextmanager
async def open_home(
    config: Pipecat, speech: Speech, responder: Responder
) -> AsyncIterator[int | None]:
    """Serve the Wyoming protocol until left, if a port is configured; yields it.

    Raises `ConfigurationError` when the port is taken.
    """
    if not config.wyoming_port:
        yield None
        return
    from sonia.voice.wyoming import open_wyoming

    served = open_wyoming(
        speech,
        responder,
        config.host,
        config.wyoming_port,
        voice=config.voice,
        longest_s=config.max_audio_s,
    )
    async with AsyncExitStack() as stack:
        try:
            port = await stack.enter_async_context(served)
        except OSError as error:
            raise ConfigurationError(
                f"services.pipecat.wyoming_port: {config.wyoming_port} can't be listened on "
                f"({error.strerror}). Choose another, or 0 for none."
            ) from error
        yield port
