"""Which model answers: every model behind one door."""

from sonia.router.answering import JsonAnswers
from sonia.router.interface import (
    AnswerCut,
    BreakerInfo,
    ChatEvent,
    ChatRequest,
    ContextExceeded,
    Embeddings,
    Finished,
    FinishReason,
    Likelihood,
    ModelInfo,
    ModelNotFound,
    ModelNotReady,
    ProviderInfo,
    Route,
    Router,
    TextDelta,
    TokenLikelihood,
    ToolCallProposed,
)
from sonia.router.service import FallbackRouter, open_router

__all__ = [
    "AnswerCut",
    "BreakerInfo",
    "ChatEvent",
    "ChatRequest",
    "ContextExceeded",
    "Embeddings",
    "FallbackRouter",
    "FinishReason",
    "Finished",
    "JsonAnswers",
    "Likelihood",
    "ModelInfo",
    "ModelNotFound",
    "ModelNotReady",
    "ProviderInfo",
    "Route",
    "Router",
    "TextDelta",
    "TokenLikelihood",
    "ToolCallProposed",
    "open_router",
]
