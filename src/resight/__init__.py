"""Resight: a folder of labelled images becomes a ResNet classifier that people can trust and ship.

    import resight

    run = resight.train("flowers/", model="resnet18", epochs=10)
    run.metrics.top1, run.classes
    resight.predict(run, "photos/*.jpg").to_csv("out.csv")

Names are resolved when they are first used: importing ``resight`` imports nothing else, and answering never
imports PyTorch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resight import errors as errors
    from resight import images as images
    from resight import models as models
    from resight.commands.adapt import adapt as adapt
    from resight.commands.advise import advise as advise
    from resight.commands.batch import predict_to_file as predict_to_file
    from resight.commands.bench import bench as bench
    from resight.commands.cache import cache as cache
    from resight.commands.crossval import crossval as crossval
    from resight.commands.demo import demo as demo
    from resight.commands.doctor import examine as examine
    from resight.commands.embed import embed as embed
    from resight.commands.embed import similar as similar
    from resight.commands.eval import evaluate_run as evaluate_run
    from resight.commands.explain import explain as explain
    from resight.commands.import_ import import_weights as import_weights
    from resight.commands.lr_find import lr_find as lr_find
    from resight.commands.predict import predict as predict
    from resight.commands.pretrain import pretrain as pretrain
    from resight.commands.preview import preview as preview
    from resight.commands.resume import resume as resume
    from resight.commands.serve import serve as serve
    from resight.commands.study import study_depth as study_depth
    from resight.commands.study_shortcuts import study_shortcuts as study_shortcuts
    from resight.commands.suggest import suggest as suggest
    from resight.commands.train import train as train
    from resight.commands.tune import tune as tune
    from resight.errors import ResightError as ResightError
    from resight.inference import BatchPredictor as BatchPredictor
    from resight.inference import Predictor as Predictor
    from resight.runs import Run as Run
    from resight.samples import load as load

__version__ = "0.1.0"

_WHERE = {
    "BatchPredictor": "resight.inference",
    "Predictor": "resight.inference",
    "ResightError": "resight.errors",
    "Run": "resight.runs",
    "adapt": "resight.commands.adapt",
    "advise": "resight.commands.advise",
    "bench": "resight.commands.bench",
    "cache": "resight.commands.cache",
    "crossval": "resight.commands.crossval",
    "demo": "resight.commands.demo",
    "embed": "resight.commands.embed",
    "errors": "",
    "evaluate_run": "resight.commands.eval",
    "explain": "resight.commands.explain",
    "export": "resight.commands.export",
    "examine": "resight.commands.doctor",
    "images": "",
    "import_weights": "resight.commands.import_",
    "load": "resight.samples",
    "lr_find": "resight.commands.lr_find",
    "models": "",
    "predict": "resight.commands.predict",
    "predict_to_file": "resight.commands.batch",
    "pretrain": "resight.commands.pretrain",
    "preview": "resight.commands.preview",
    "resume": "resight.commands.resume",
    "serve": "resight.commands.serve",
    "similar": "resight.commands.embed",
    "study_depth": "resight.commands.study",
    "study_shortcuts": "resight.commands.study_shortcuts",
    "suggest": "resight.commands.suggest",
    "train": "resight.commands.train",
    "tune": "resight.commands.tune",
}
__all__ = [*_WHERE, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'resight' has no attribute {name!r}")
    module = _WHERE[name]
    value = getattr(import_module(module), name) if module else import_module(f"resight.{name}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
