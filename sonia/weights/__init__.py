"""Model weights: which there are, which are here, and how the others get here.

    weights = Weights(config.models)
    files = await weights.ensure("all-minilm-l6-v2")   # {"model.safetensors": Path(…), …}

What is handed out was checked against the pinned SHA-256 first. Sources are tried in order:
folders the user names, then those of the catalogue.
"""

from sonia.weights.catalogue import (
    WeightsDamaged,
    WeightsEntry,
    WeightsFile,
    WeightsMissing,
    WeightsRole,
)
from sonia.weights.pulls import Weights, needed
from sonia.weights.shelf import WeightsCheck
from sonia.weights.sources import Progress

__all__ = [
    "Progress",
    "Weights",
    "WeightsCheck",
    "WeightsDamaged",
    "WeightsEntry",
    "WeightsFile",
    "WeightsMissing",
    "WeightsRole",
    "needed",
]
