"""The public functions: load, simulate, train, infer, evaluate.

They join presets, systems and the engine; the command line calls them and nothing else.
"""

from __future__ import annotations

from melotte.api.inference import infer, infer_observations
from melotte.api.judgement import compare, evaluate
from melotte.api.models import load, model_path, shipped_models, torch_device
from melotte.api.simulation import simulate
from melotte.api.snapshot_libraries import library_of_snapshots
from melotte.api.sources import Paths
from melotte.api.training import label_clusters, train
from melotte.io.object_names import plain_name

__all__ = [
    "Paths",
    "compare",
    "evaluate",
    "infer",
    "infer_observations",
    "label_clusters",
    "library_of_snapshots",
    "load",
    "model_path",
    "plain_name",
    "shipped_models",
    "simulate",
    "torch_device",
    "train",
]
