"""The page of a pretraining: does it learn, which pictures are alike by it, and how do all of them lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from resight.explaining import enlarge, nearest, plane
from resight.images import visible
from resight.inference import Predictor
from resight.reporting.embeddings import embedding_plot
from resight.reporting.figures import LINE, SOFT
from resight.reporting.page import svg, thumbnail, write_page
from resight.runs import Run
from resight.samples import Sample, SampleSet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float32]
SHOWN = 1000
"""Validation pictures that are drawn in the plane and looked through for neighbours."""
ROWS, NEAR = 12, 5
_SIDE = 96


def write_pretraining(
    path: Path, run: Run, predictor: Predictor, samples: SampleSet, history: Sequence[Mapping[str, Any]]
) -> None:
    """One self-contained page of a Run that is about to be sealed. samples: its labels, where there are some, only
    colour the plane. history: the entries of metrics.jsonl. Raises StorageError.
    """
    val = [i for i, sample in enumerate(samples.samples) if sample.split == "val"]
    chosen = [val[k] for k in np.sort(np.random.default_rng(run.card.seed).permutation(len(val))[:SHOWN])]
    embeddings = predictor.embeddings(samples, chosen)
    flat = plane(embeddings)
    named = samples.labelled and samples.task == "single"
    labels = np.array([samples.samples[i].label if named else 0 for i in chosen], np.int64)
    names = samples.classes if named else ("pictures",)
    told = run.card.pretraining
    write_page(
        path,
        "pretraining.html",
        name=samples.root.name,
        card=run.card,
        told=told,
        signals=told.get("signals", {}),
        counts=run.card.data["counts"],
        curves=svg(_curves(history)),
        epochs=len(history),
        rows=_gallery(samples, [samples.samples[i] for i in chosen], embeddings, run.card.channels),
        plot=embedding_plot(flat.place(embeddings), labels, names, flat.shares),
        shares=flat.shares,
        compared=len(chosen),
        named=named,
        width=embeddings.shape[1],
        version=version("resight"),
    )


def _gallery(
    samples: SampleSet, chosen: Sequence[Sample], embeddings: Floats, channels: int
) -> list[list[tuple[str, str, float]]]:
    """Some pictures, each with its nearest among the others: (image, name, cosine)."""
    some = np.linspace(0, len(chosen) - 1, min(ROWS, len(chosen))).astype(int)
    order, cosines = nearest(embeddings, embeddings[some], NEAR + 1)
    rows = []
    for own, found, near in zip(some.tolist(), order.tolist(), cosines.tolist(), strict=True):
        others = [(k, cosine) for k, cosine in zip(found, near, strict=True) if k != own][:NEAR]
        row = [(own, 1.0), *others]
        rows.append([(_image(samples, chosen[k], channels), chosen[k].name, cosine) for k, cosine in row])
    return rows


def _image(samples: SampleSet, sample: Sample, channels: int) -> str:
    pixels = samples.read(sample, channels)
    small = visible(pixels) if pixels.shape[2] not in (1, 3) else pixels
    if min(small.shape[:2]) < _SIDE and small.shape[2] == 3:
        small = enlarge(small, _SIDE)
    return thumbnail(small, _SIDE)


def _curves(history: Sequence[Mapping[str, Any]]) -> Figure:
    """By update: the loss; the spread and what labels say, in [0, 1]; rank; alignment and uniformity."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 5.6), layout="constrained")
    panels = figure.subplots(2, 2).ravel()
    steps = [entry["step"] for entry in history]
    shares = {"train_accuracy": "views found again", "spread": "spread", "knn": "k-NN", "linear": "linear probe"}
    _lines(panels[0], steps, history, {"train_loss": "training loss"})
    _lines(panels[1], steps, history, shares)
    panels[1].set_ylim(0, 1.02)
    _lines(panels[2], steps, history, {"rank": "effective rank"})
    panels[2].set_ylim(bottom=0)
    _lines(panels[3], steps, history, {"alignment": "alignment", "uniformity": "uniformity"})
    return figure


def _lines(axes: Axes, steps: Sequence[int], history: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> None:
    for key, label in names.items():
        if all(key in entry for entry in history):
            marker = "o" if len(steps) < 30 else ""
            axes.plot(steps, [entry[key] for entry in history], marker=marker, markersize=3, label=label)
    axes.set_xlabel("update")
    axes.legend(frameon=False, fontsize="small")
    axes.grid(color=LINE, linewidth=0.6)
    axes.tick_params(colors=SOFT)
    axes.spines[["top", "right"]].set_visible(False)
