"""Continuing a Run with new classes or new pictures: what follows the Run, what is kept of it, what is new.

The network, its geometry, its normalisation and its channels are the Run's; so is how it is trained, unless a recipe
is named. Its classes come first, in their order; classes that it does not know follow in natural order. The rows of
the head move by class name. Pictures that the Run was validated or tested on stay what they were, so that results
before and after are about the same pictures.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from resight.errors import DataError, ImageError, RunError, UsageError
from resight.evaluation import Evaluation, wilson
from resight.images import printable, read_bytes
from resight.inference.tasks import only_single
from resight.inference.tiled import only_whole
from resight.models import ResNet, Source, read_weights
from resight.recipes import TrainConfig
from resight.recipes.sections import BalanceConfig, DistillConfig, TransferConfig
from resight.runs import CONFIG, PREDICTIONS, SPLIT, WEIGHTS, Run, RunCard
from resight.samples import CheckReport, SampleSet, split_csv
from resight.samples.check import content_hash
from resight.samples.model import show_names
from resight.samples.split_csv import Key, SplitRow
from resight.training import prepare
from resight.training.renamed import renamed, root_of, same_size

_FOLLOWS = (
    "model.name", "model.options", "model.weights", "model.whitening", "model.zero_gamma", "data.image_size",
    "data.channels", "data.mean", "data.std", "data.geometry", "data.crop_ratio", "data.interpolation",
    "data.geometry_version",
)  # fmt: skip
"""What the Run decides: a wish for it would have no effect, or need another network."""


@dataclass(frozen=True)
class Base:
    """The Run that is continued. ``config``: what it was trained with, as a new training takes it, or nothing of an
    imported one. ``rows``: its split.csv, likewise. ``keep_absent``: classes without pictures are kept.
    """

    run: Run
    config: TrainConfig | None
    rows: Mapping[Key, SplitRow]
    keep_absent: bool

    def wishes(self, wished: Mapping[str, Any]) -> dict[str, Any]:
        """With what follows the Run. Raises UsageError for wishes that contradict it."""
        wrong = [name for name in wished if name in _FOLLOWS or name.startswith("model.options.")]
        if wrong:
            raise UsageError(
                f"{', '.join(wrong)} cannot be chosen with --from: the network, what it sees and how it starts are "
                f"those of {self.run.path}",
                hint=f"leave it out; to take only the weights into another network: --weights {self.run.path}",
            )
        card = self.run.card
        followed = {"data.channels": card.channels, "data.geometry_version": card.geometry.version}
        return {**wished, **followed, "model.weights": str(self.run.path.resolve())}

    def found_in(self, data: Path) -> Base:
        """With ``rows`` under the names that the pictures have in ``data``: one that is not there under its own name is
        looked for by its content, among the files whose names the Run does not know. As far as the Run's own files can
        still be read.
        """
        if self.config is None:
            return self
        return replace(self, rows=renamed(self.rows, root_of(Path(self.config.data.path)), data))

    def known_parts(self, data: Path) -> dict[Key, str]:
        """The part, train, val or test, of each picture of the Run's own data that is in ``data`` under the same name
        and, where the earlier file can still be seen, with the same size.
        """
        old = None if self.config is None else root_of(Path(self.config.data.path))
        new = root_of(data)
        return {
            key: row.split
            for key, row in self.rows.items()
            if row.split != split_csv.SKIPPED and (old is None or old == new or same_size(old, new, key[0]))
        }


def open_base(path: str | Path, keep_absent: bool, *, rebalance: bool = False) -> Base:
    """Opens a sealed Run to continue it. rebalance: what it did about classes of different size is asked for anew.

    Raises RunError as ``Run.open`` does, UsageError for a Run that answers with any number of labels.
    """
    run = Run.open(path)
    only_single(run, "--from")
    only_whole(run, "--from")
    if not run.records(CONFIG):
        return Base(run, None, {}, keep_absent)
    config = TrainConfig.from_json(run.read(CONFIG), str(run.path / CONFIG))
    if rebalance:
        config.balance, config.select = BalanceConfig(), "accuracy"
        config.loss = "cross_entropy" if config.loss == "focal" else config.loss
    rows = split_csv.read(run.path / SPLIT, run.read(SPLIT)) if run.records(SPLIT) else {}
    return Base(run, config, rows, keep_absent)


def renewed(base: Base) -> TrainConfig | None:
    """The Run's settings for a new training: without what was measured for that machine, those data, that time."""
    if base.config is None:
        return None
    config = base.config.model_copy(deep=True)
    fresh = TrainConfig()
    config.total_steps, config.budget_seconds = 0, 0.0  # ``epochs`` says how many they were
    config.micro_batch, config.memory_gb, config.data.cache_gb = 0, 0.0, fresh.data.cache_gb  # that machine's memory
    config.model.checkpointing = "auto"
    config.model.whitening = False  # it would replace filters that have learned
    config.transfer = TransferConfig()  # a probe would replace the head that is kept
    config.distill = DistillConfig()  # the teacher taught other classes, and may be gone
    for name in ("device", "precision", "threads", "tensorboard"):
        setattr(config, name, getattr(fresh, name))
    config.data.skip_bad = False
    return config


def describe(base: Base, samples: SampleSet) -> dict[str, Any]:
    """What the new Run's card says of the one it continues.

    Raises DataError for classes of the Run without training pictures, unless they are to be kept.
    """
    known = base.run.classes
    trained = {samples.classes[sample.label] for sample in samples.part("train")}
    absent = [name for name in known if name not in trained]
    if absent and not base.keep_absent:
        raise DataError(
            f"{len(absent)} of the {len(known)} classes of {base.run.path} have no training pictures in "
            f"{printable(str(samples.root))}: {show_names(absent)}. A network trained without them forgets them",
            hint="add pictures of them, or keep them all the same: --keep-absent",
        )
    here = _keys(samples)
    kept = {part: sum(row.split == part == here.get(key) for key, row in base.rows.items()) for part in ("val", "test")}
    return {
        "run": str(base.run.path.resolve()),
        "sha256": base.run.card.files[WEIGHTS],
        "classes": len(known),
        "absent": absent,
        "kept": kept,
        "before": _before(base, here),
    }


def _before(base: Base, here: Mapping[Key, str]) -> dict[str, dict[str, int]]:
    """How many of the pictures that stay in val and test the Run had right: by part, ``right`` of ``n``."""
    if not base.run.records(PREDICTIONS):
        return {}
    keys = [key for key, row in base.rows.items() if row.split != split_csv.SKIPPED]
    found: dict[str, dict[str, int]] = {}
    try:
        stored = np.load(io.BytesIO(base.run.read(PREDICTIONS)), allow_pickle=False)
        for part in ("val", "test"):
            if f"{part}_logits" in stored:
                right = stored[f"{part}_logits"].argmax(axis=1) == stored[f"{part}_labels"]
                stays = np.array([here.get(keys[k]) == part for k in stored[f"{part}_indices"].tolist()], bool)
                found[part] = {"right": int(right[stays].sum()), "n": int(stays.sum())}
    except (ValueError, KeyError, IndexError, OSError) as error:
        raise RunError(f"{base.run.path / PREDICTIONS} is not sound: {printable(str(error))}") from error
    return found


def lines(base: Base, samples: SampleSet, checked: CheckReport, told: Mapping[str, Any]) -> list[str]:
    """What is said of it before the training. ``told``: what ``describe`` says."""
    new = samples.classes[told["classes"] :]
    text = f"continuing {base.run.path}: its {told['classes']} classes keep their order"
    said = [f"{text}, {len(new)} are new: {show_names(new)}" if new else f"{text}, none is new"]
    if told["absent"]:
        said.append(
            f"warning: these classes have no training pictures and may be forgotten: {show_names(told['absent'])}"
        )
    kept = told["kept"]
    if base.rows:
        said.append(f"{kept['val']:,} pictures stay in validation and {kept['test']:,} in test, as they were there")
    return said + leaks(base, samples, checked)


def leaks(base: Base, samples: SampleSet, checked: CheckReport) -> list[str]:
    """Sentences about training pictures that the Run was validated or tested on: by name, where the layout of the data
    says so, and by content under another name, as far as the Run's own files can still be read.
    """
    judged = {key: row for key, row in base.rows.items() if row.split in ("val", "test")}
    here = _keys(samples)
    found = [split_csv.name_of(key) for key in judged if here.get(key) == "train"]
    absent = [key for key in judged if key not in here and key[1] is None]
    said, unseen = [], 0
    by_content = {
        checked.content[k].tobytes(): sample.name for k, sample in enumerate(samples.samples) if sample.split == "train"
    }
    root = root_of(Path(base.config.data.path)) if base.config else None
    for source, _ in absent:
        try:
            digest = content_hash(read_bytes(root / source)) if root else b""
        except ImageError:
            unseen += 1
            continue
        if digest in by_content:
            found.append(f"{source} (here {by_content[digest]})")
    if found:
        said.append(
            f"warning: {len(found):,} pictures that {base.run.path} was validated or tested on are training pictures "
            f"here, so its results on them are no measure of the new Run: {show_names(found)}"
        )
    if unseen:
        said.append(
            f"note: {unseen:,} pictures that {base.run.path} was validated or tested on are not here under their "
            "names, and their files are gone: whether they are here under others cannot be said"
        )
    return said


def build(card: RunCard, config: TrainConfig, say: Callable[[str], None]) -> ResNet:
    """The network that a continuing training starts with: the Run's weights, the head's rows by class name.

    Raises RunError where the Run is gone or another one.
    """
    path = Path(card.continues["run"])
    run = Run.open(path)
    if run.card.files[WEIGHTS] != card.continues["sha256"]:
        raise RunError(
            f"{path} is not the Run that this training continues: its weights are others",
            hint="restore it, or start a new training",
        )
    source = read_weights(path)
    net = prepare.build_net(config, len(card.classes), source, lambda _: None)
    say(keep_head(net, source, card.classes))
    return net


@torch.no_grad()
def keep_head(net: ResNet, source: Source, classes: Sequence[str]) -> str:
    """Copies the rows of the head that belong to the classes of ``source``, by name; returns what was done.

    A new class starts as the mean of the known ones: its logit is their mean, so it wins no picture at first, and
    all of them together leave the odds between known classes as they were, exactly.
    """
    known = source.classes or ()
    weight, bias = source.state["fc.weight"], source.state["fc.bias"]
    places = [classes.index(name) for name in known]
    net.fc.weight[:], net.fc.bias[:] = weight.mean(0), bias.mean(0)
    net.fc.weight[places], net.fc.bias[places] = weight, bias
    return f"the head keeps the rows of {len(known)} classes; {len(classes) - len(known)} start as their mean"


def _keys(samples: SampleSet) -> dict[Key, str]:
    return {(sample.source, sample.index): sample.split for sample in samples.samples}


def by_age(found: Evaluation, part: str, told: Mapping[str, Any]) -> list[str]:
    """How good the Run is on the classes that were known, with what was said of them before, and on the new ones."""
    known, lines = int(told["classes"]), []
    for name, rows in (("known classes", slice(0, known)), ("new classes", slice(known, None))):
        cells = found.confusion[rows]
        seen, right = int(cells.sum()), int(np.diagonal(found.confusion)[rows].sum())
        if name == "new classes" and known == len(found.classes):
            continue
        if not seen:
            lines.append(f"{name:<14} no pictures in {part}")
            continue
        share = wilson(right, seen)
        value, low, high = (100 * number for number in (share.value, share.low, share.high))
        line = f"{name:<14} {value:5.1f} %  [{low:.1f}, {high:.1f}]  of {seen:,}"
        before = told["before"].get(part)
        if name == "known classes" and before and before["n"]:
            which = "the same" if before["n"] == seen else f"the {before['n']:,} that were there"
            line += f"; before: {100 * before['right'] / before['n']:.1f} % of {which}"
        lines.append(line)
    return lines
