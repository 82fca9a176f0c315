"""``resight study shortcuts``: what each block of a trained network adds, and what is lost without it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from resight.commands.extras import need
from resight.commands.outputs import check_outputs
from resight.commands.own_data import learned, load_own, match_classes, parts_of
from resight.commands.predict import resolve_run
from resight.errors import DataError, UsageError
from resight.images import printable
from resight.inference.tiled import only_whole
from resight.runs import Run
from resight.samples import SampleSet, load

if TYPE_CHECKING:
    from torch import Tensor

    from resight.attribution import Explained
    from resight.models import ResNet

PICTURES, SHOWN, AT_ONCE = 500, 32, 50
Say = Callable[[str], None]


@dataclass(frozen=True)
class Shortcuts:
    """What was found. found: ``accuracy``, ``blocks``, ``stages`` and what they were measured on, plain values."""

    run: Path
    page: Path
    found: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"run": str(self.run), "page": str(self.page), **self.found}

    def to_text(self) -> str:
        """For a terminal: a table of blocks, one of stages."""
        found = self.found
        lines = [f"accuracy of the whole network: {_percent(found['accuracy'])} on {found['pictures']:,} pictures", ""]
        lines.append(f"{'block':<12}{'‖branch‖ / ‖shortcut‖':>22}{'skipped':>12}{'swapped':>12}")
        for block in found["blocks"]:
            ratio = "–" if block["ratio"] is None else f"{block['ratio']:.2f}"
            mark = " *" if block["changes_shape"] else ""
            lines.append(
                f"{block['name'] + mark:<12}{ratio:>22}{_percent(block['skipped']):>12}{_percent(block['swapped']):>12}"
            )
        lines += ["* changes the shape: its projection stays when it is skipped", ""]
        lines.append(f"{'':<12}{'sees at most':>14}{'by shortcuts':>14}{'really':>10}{'probe':>10}")
        for stage in found["stages"]:
            sides = "".join(
                f"{'–' if stage[name] is None else f'{stage[name]:.0f} px':>{width}}"
                for name, width in (("size", 14), ("shortest", 14), ("effective", 10))
            )
            lines.append(f"{stage['name']:<12}{sides}{_percent(stage['probe']):>10}")
        return "\n".join([*lines, "", f"look: {self.page}"])


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def study_shortcuts(
    run: Run | str | Path,
    data: str | Path | None = None,
    *,
    part: str = "val",
    pictures: int = PICTURES,
    out: str | Path = "shortcuts.html",
    say: Say = lambda _: None,
) -> Shortcuts:
    """Looks into the network of a Run, block by block, and writes a page. Nothing of the Run is changed.

    data: labelled pictures; by default those that the Run was trained with. part: of them, ``val``, ``test`` or
    ``train`` (of data that is not split, ``train`` is all). pictures: how many, at most. Probes learn from as many
    training pictures; with ``train`` from every second of these, and are asked for the others. out: the page, not in a
    Run.

    Raises UsageError for wrong arguments and for a Run with any number of labels, DataError for data that does not fit,
    RunError, StorageError.
    """
    need("looking into a network", "train", "torch", "jinja2", "matplotlib", "sklearn")
    if part not in ("val", "test", "train"):
        raise UsageError(f"the part is {part!r}; expected val, test or train")
    if type(pictures) is not int or pictures < 10:
        raise UsageError(f"--pictures is {pictures!r}; expected a whole number, 10 or more")
    check_outputs({"--out": Path(out)})
    opened = resolve_run(run)
    if opened.card.task == "multi":
        raise UsageError(
            f"{printable(str(opened.path))} answers with any number of labels; expected one class a picture"
        )
    only_whole(opened, "resight study shortcuts")
    from resight.attribution import load_network
    from resight.reporting.shortcuts_page import write_shortcuts

    samples = load_own(opened) if data is None else load(data, training=False)
    numbers, warnings = match_classes(samples.classes, opened.classes)
    chosen = _chosen(samples, part, pictures)
    taught = _taught(samples, part, chosen)
    if data is not None:
        warnings += learned(opened, samples, chosen)
    for text in warnings:
        say(f"note: {text}")
    network = load_network(opened)
    found, looked = _look(network, opened, samples, numbers, chosen, taught, say)
    found |= {"part": part, "warnings": warnings, "data": samples.root.name}
    write_shortcuts(Path(out), opened, found, looked)
    return Shortcuts(opened.path, Path(out), found)


def _chosen(samples: SampleSet, part: str, most: int) -> NDArray[np.int64]:
    """Positions of up to so many pictures of a part, evenly over it. Raises DataError where there are none."""
    there = np.array([i for i, sample in enumerate(samples.samples) if sample.split == part], np.int64)
    if not len(there):
        raise DataError(
            f"{printable(str(samples.root))} has no pictures in {part}; {parts_of(samples)}",
            hint="choose another --part",
        )
    return there[np.linspace(0, len(there) - 1, min(most, len(there))).round().astype(np.int64)]


def _taught(samples: SampleSet, part: str, chosen: NDArray[np.int64]) -> NDArray[np.int64]:
    """Positions of the training pictures that probes learn from: as many as are chosen; where those are training
    pictures themselves, every second of them. Raises DataError where there are none."""
    if part == "train":
        return chosen[::2]
    if not any(sample.split == "train" for sample in samples.samples):
        raise DataError(
            f"{printable(str(samples.root))} has no training pictures, from which probes learn; {parts_of(samples)}",
            hint="give data that has some, or labelled pictures that are not split, with --part train",
        )
    return _chosen(samples, "train", len(chosen))


def _batches(
    network: Explained, run: Run, samples: SampleSet, numbers: list[int], indices: NDArray[np.int64]
) -> tuple[list[Tensor], NDArray[np.int64]]:
    """The pictures as the network sees them, normalised, some at a time; their classes among the Run's."""
    import torch

    from resight.attribution.network import to_tensor

    def square(index: int) -> Tensor:
        sample = samples.samples[index]
        geometry = run.card.geometry
        return to_tensor(geometry.apply(samples.read(sample, run.card.channels, geometry=geometry)))

    parts = [indices[start : start + AT_ONCE] for start in range(0, len(indices), AT_ONCE)]
    labels = np.array([numbers[samples.samples[int(i)].label] for i in indices], np.int64)
    with torch.inference_mode(False):
        batches = [network.normalize(torch.cat([square(int(i)) for i in some])) for some in parts]
    return batches, labels


def _look(
    network: Explained,
    run: Run,
    samples: SampleSet,
    numbers: list[int],
    chosen: NDArray[np.int64],
    taught: NDArray[np.int64],
    say: Say,
) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]]]:
    """Everything that is measured, and where the middle of each stage really looks."""
    from dataclasses import asdict

    from resight.studying.receptive import looked_at
    from resight.studying.shortcuts import study_blocks

    net = network.net
    batches, labels = _batches(network, run, samples, numbers, chosen)
    say(f"{len(net.blocks)} blocks, each skipped and swapped, on {len(labels):,} pictures")
    accuracy, blocks = study_blocks(
        net, batches, labels, lambda done, total: say(f"  {min(done * AT_ONCE, len(labels)):,} pictures")
    )
    say("receptive fields and probes of the stages")
    weights = looked_at(net, batches[0][:SHOWN])
    known = _batches(network, run, samples, numbers, taught)
    found = {
        "architecture": run.card.architecture.name,
        "image_size": run.card.geometry.size,
        "pictures": len(labels),
        "accuracy": accuracy,
        "chance": float(np.bincount(labels).max() / len(labels)),
        "blocks": [asdict(block) for block in blocks],
        "stages": _stages(net, known, (batches, labels, ~np.isin(chosen, taught)), weights, len(run.classes)),
    }
    return found, weights


def _stages(
    net: ResNet,
    taught: tuple[list[Tensor], NDArray[np.int64]],
    asked: tuple[list[Tensor], NDArray[np.int64], NDArray[np.bool_]],
    weights: Mapping[str, NDArray[np.float32]],
    classes: int,
) -> list[dict[str, Any]]:
    """``stem``, ``stage1`` …: what they see, and what a linear probe reads from them.

    taught: pictures that the probe learns from, and their classes; asked: those it is asked for, and which of them it
    has not learned from.
    """
    from resight.studying.receptive import effective_side, receptive_fields
    from resight.studying.stages import pooled, probe_accuracy

    (train, train_labels), (batches, labels, unseen) = taught, asked
    known, held = pooled(net, train), pooled(net, batches)
    rows: list[dict[str, Any]] = []
    for field in receptive_fields(net):
        probe = probe_accuracy(known[field.name], train_labels, held[field.name][unseen], labels[unseen], classes)
        rows.append(
            {
                "name": field.name,
                "size": field.size,
                "shortest": field.shortest,
                "step": field.step,
                "effective": effective_side(weights[field.name]),
                "channels": known[field.name].shape[1],
                "probe": probe,
                "probed_from": len(train_labels),
                "probed_on": int(unseen.sum()),
            }
        )
    return rows
