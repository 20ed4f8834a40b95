"""Which model answers: every model behind one door."""

from sonia.router.answering import JsonAnswers
from sonia.router.interface import (
    AnswerCut,
    ChatEvent,
    ChatRequest,
    ContextExceeded,
    Embeddings,
    Finished,
    FinishReason,
    ModelInfo,
    ModelNotFound,
    ModelNotReady,
    ProviderInfo,
    Route,
    Router,
    TextDelta,
    ToolCallProposed,
)
from sonia.router.service import FallbackRouter, open_router

__all__ = [
    "AnswerCut",
    "ChatEvent",
    "ChatRequest",
    "ContextExceeded",
    "Embeddings",
    "FallbackRouter",
    "FinishReason",
    "Finished",
    "JsonAnswers",
    "ModelInfo",
    "ModelNotFound",
    "ModelNotReady",
    "ProviderInfo",
    "Route",
    "Router",
    "TextDelta",
    "ToolCallProposed",
    "open_router",
]
