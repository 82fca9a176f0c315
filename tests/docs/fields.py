"""The table of all configuration fields in docs/recipes.md, made from ``TrainConfig``.

python tests/docs/fields.py        writes it; test_docs.py checks that it is up to date
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from resight.recipes import TrainConfig
from resight.recipes.sections import Section

PAGE = Path(__file__).parents[2] / "docs" / "recipes.md"
BLOCK = re.compile(r"(<!-- fields:[^\n]*-->\n).*?(<!-- end of fields -->)", re.DOTALL)

MEANING = {
    "recipe": "how to train: `--recipe`",
    "task": "one class a picture, or any number: the data say it; recorded, not to be set",
    "model.name": "the network: `--model`",
    "model.options": "what differs from the name's own, e.g. `model.options.stem=tiny`",
    "model.weights": "weights to start from: `--weights`",
    "model.zero_gamma": "the last norm of each block starts at zero",
    "model.whitening": "the first convolution starts as a whitening of patches",
    "model.checkpointing": "less memory for about a third more time; `auto`: where memory needs it (docs/deeper.md)",
    "model.freeze": "the deepest part that keeps its weights, with all before it: `--freeze`",
    "model.norms": "statistics of norms: `train` follows the batches, `frozen` keeps those of the weights",
    "transfer.rung": "how weights are used; `features`: the last layer alone; `lpft`: it first, then all",
    "transfer.head": "last layer that all are trained with: `probe`: the regression's; `new`: one that knows nothing",
    "transfer.folds": "parts of the training pictures, held out in turn, that choose the rung where fewer than 30 "
    "validate; 0: validation does",
    "data.path": "where the data are; recorded, not to be set",
    "data.val_fraction": "share of train carved for validation, where there is none",
    "data.test_fraction": "share of train carved for test, where there is none",
    "data.skip_bad": "leave unreadable pictures out: `--skip-bad`",
    "data.image_size": "side of the square that is answered: `--image-size`",
    "data.train_size": "side while training; 0: the same",
    "data.start_scale": "side at the first update, as a share of the training size; 1: no growth",
    "data.grow_until": "share of the training after which the side is `train_size`",
    "data.fix_share": "share of the updates, at the end, that fit the last layer and norm to `image_size` (FixRes)",
    "data.geometry": "how a picture becomes a square, or many: docs/tiles.md",
    "data.crop_ratio": "side of the centre crop / shorter side resized, for `crop`",
    "data.interpolation": "filter of resizing",
    "data.geometry_version": "how JPEGs are decoded: 1 in full, 2 large ones at a part of their size",
    "data.channels": "1 grey, 3 RGB, 2 and 4 to 16: docs/channels.md; 0 decides by the files: `--channels`",
    "data.mean": "of pixels in [0, 1], one number a channel; empty: measured",
    "data.std": "standard deviation, likewise",
    "data.workers": "threads that decode: `--workers`",
    "data.cache_gb": "decoded training pictures kept in memory, GiB",
    "data.disk_cache_gb": "decoded pictures of all trainings on the disk, where memory is too small, GiB; 0: none",
    "tiles.side": "of a tile, in pixels of the picture; 0: `data.image_size`",
    "tiles.stride": "from one tile to the next, in pixels of the picture; 0: half of the side",
    "tiles.attention": "hidden width of the attention that weighs tiles",
    "tiles.bag": "the most tiles of a picture that an update learns from",
    "tiles.drawn": "which share of these is drawn at random; the others have most attention",
    "tiles.start": "what attention begins with: what is `rare` among tiles, `random`, that of the `weights`",
    "augment.crop": "`resized`: random area and aspect; `shift`: by some pixels",
    "augment.crop_from": "with `squash` and `letterbox`, what `resized` cuts from: the answered square, or the picture",
    "augment.scale_min": "smallest area of a random crop, as a share",
    "augment.scale_max": "largest area",
    "augment.shift": "largest shift, pixels",
    "augment.shift_padding": "what comes in at the border",
    "augment.flip": "mirror left and right: half of the time, or every other epoch",
    "augment.policy": "`trivial`: TrivialAugment; `rand`: RandAugment",
    "augment.rand_count": "operations of RandAugment",
    "augment.rand_magnitude": "their strength, of 30",
    "augment.color": "brightness, contrast, saturation in 1 ± this",
    "augment.hue": "turned by up to this part of the circle",
    "augment.color_share": "probability that `color` and `hue` change a picture",
    "augment.gray": "probability that all colours go",
    "augment.blur": "probability of a blur, of 0.05 to 1 % of the side",
    "augment.erasing": "probability that a rectangle is erased",
    "augment.mixup": "α of its Beta distribution; 0: off",
    "augment.cutmix": "α of its Beta distribution; 0: off",
    "optimizer.name": "which optimizer",
    "optimizer.lr": "peak rate, for the whole batch: `--lr`",
    "optimizer.muon_scale": "rate of the weights that Muon orthogonalises, as a share of `lr`",
    "optimizer.momentum": "of SGD; β₁ of the others",
    "optimizer.nesterov": "Nesterov's form, for SGD and Muon",
    "optimizer.beta2": "β₂ of AdamW and LAMB",
    "optimizer.weight_decay": "on weights",
    "optimizer.decay_norms": "decay norms and biases too",
    "optimizer.layer_decay": "rate of each stage, as a share of the next one's: `--layer-decay`",
    "optimizer.clip": "largest gradient norm; 0: off",
    "optimizer.average_epochs": "horizon of the averaged weights, epochs; 0: off",
    "schedule.name": "shape of the learning rate",
    "schedule.warmup": "share of the training with a rising rate",
    "schedule.warmup_rate": "the rate meanwhile, as a share of the peak; 0: it rises",
    "schedule.milestones": "for `step`: shares of the training",
    "schedule.gamma": "for `step`: the factor at each",
    "balance.weights": "how much a picture counts by its class's size: `--balance weights` is `effective`",
    "balance.beta": "β of the effective number (Cui et al. 2019)",
    "balance.sampling": "how often a class's pictures come: `--balance sampling` is `balanced`",
    "balance.logit_adjustment": "τ of Menon et al. 2021: `--balance logit` is 1; 0: off",
    "distill.teacher": "a sealed Run to learn from: `--teacher`",
    "distill.sha256": "of the teacher's weights; empty: recorded",
    "distill.weight": "the teacher's part of the loss; the labels have the rest",
    "distill.temperature": "by which both sides' logits are divided",
    "pretrain.method": "how `resight pretrain` learns: `--method`; recorded, not to be set",
    "pretrain.unlabelled": "folders are no classes: `--unlabelled`; recorded, not to be set",
    "pretrain.views": "whole views of each picture",
    "pretrain.local_views": "further, small views, for `dino`",
    "pretrain.local_size": "their side, pixels",
    "pretrain.local_min": "their smallest area, as a share",
    "pretrain.local_max": "their largest area",
    "pretrain.hidden": "width of the layers behind the embedding",
    "pretrain.width": "numbers that the loss compares; prototypes of `dino`",
    "pretrain.temperature": "of similarities (`simclr`), of the student (`dino`)",
    "pretrain.teacher_temperature": "of the teacher (`dino`)",
    "pretrain.momentum": "with which the target follows at first (`byol`, `dino`)",
    "pretrain.center": "of the mean of the teacher's answers (`dino`)",
    "pretrain.stop_gradient": "false: answers collapse, for showing that (`byol`, `fastsiam`)",
    "pretrain.watch_steps": "updates between two looks whether answers have collapsed",
    "loss": "`bce` is over the classes, as in Wightman et al. 2021; `focal` as in Lin et al. 2017: `--balance focal`",
    "focal_gamma": "γ of the focal loss",
    "label_smoothing": "for cross-entropy and focal",
    "select": "the best epoch by accuracy, or by the mean of the classes' recalls",
    "epochs": "passes over the training pictures: `--epochs`",
    "budget_seconds": "time instead of epochs: `--budget`; 0: off",
    "auto_batch": "choose the micro-batch by memory: `--batch auto`",
    "batch": "pictures in an update, over all processes: `--batch`",
    "micro_batch": "pictures at a time in one process; 0: its whole share",
    "memory_gb": "the most that training may take, GiB: `--memory`; 0: what is there",
    "patience": "epochs without a better validation before stopping; 0: never",
    "seed": "of splits, initialisation, order, augmentation: `--seed`",
    "device": "`--device`",
    "precision": "`--precision`",
    "compile": "translate the network with `torch.compile` first; needs a C++ compiler",
    "threads": "of PyTorch; 0: all cores",
    "save_minutes": "between checkpoints inside an epoch",
    "save_steps": "the same in steps; 0: by minutes",
    "keep": "newest checkpoints kept, besides the best",
    "tensorboard": "also write numbers for TensorBoard into the Run (extra `tensorboard`)",
    "total_steps": "length in updates, instead of epochs or a budget; 0: by those",
}


def fields(section: type[Section], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """(dotted name, field) of every field that can be set, in the order of the configuration."""
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from fields(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name, field


def values(annotation: Any) -> str:
    """The type for people: choices, or the plain type's name."""
    if get_origin(annotation) is Literal:
        return " \\| ".join(f"`{choice}`" for choice in get_args(annotation))
    if annotation == bool | Literal["auto"]:
        return "true, false, `auto`"
    names = {int: "whole number", float: "number", bool: "true, false", str: "text", list[float]: "list of numbers"}
    return names.get(annotation, "text" if annotation == str | None else "fields")


def table() -> str:
    lines = ["| field | values | default | meaning |", "|---|---|---|---|"]
    for name, field in fields(TrainConfig):
        default = str(field.default).lower() if isinstance(field.default, bool) else field.default
        shown = f"`{default}`" if default not in ("", None, [], {}) else "–"
        lines.append(f"| `{name}` | {values(field.annotation)} | {shown} | {MEANING.get(name, '')} |")
    return "\n".join(lines) + "\n"


def written(text: str) -> str:
    """The page with a fresh table."""
    return BLOCK.sub(lambda match: match[1] + table() + match[2], text)


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text("utf-8")), "utf-8")
