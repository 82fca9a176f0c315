"""What pictures that are cut into tiles change in every recipe, and what they leave no room for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resight.errors import UsageError
from resight.images import Geometry
from resight.recipes.config import TrainConfig
from resight.recipes.sections import TilesConfig

TILES = "tiles"
_SQUARE = "it changes the one square of a picture, and there is none"
_SOME = "a picture is a bag of tiles"
# {field: (the values that it may have, why no others)}. What a recipe says besides is changed by ``with_tiles``.
_ONLY: dict[str, tuple[tuple[Any, ...], str]] = {
    "task": (("single",), "any number of labels a picture is not built for tiles"),
    "augment.crop": (("none", "shift"), _SQUARE),
    "augment.mixup": ((0,), f"pictures are not blended: {_SOME}"),
    "augment.cutmix": ((0,), f"pictures are not blended: {_SOME}"),
    "distill.teacher": ((None,), "a teacher sees one square"),
    "transfer.rung": (
        ("none",),
        "the ladder's regression needs one square a picture; model.freeze=backbone is like it",
    ),
    "model.whitening": ((False,), "it is not built for tiles"),
    "data.train_size": ((0,), "training has the tiles of answering"),
    "data.start_scale": ((1,), "training has the tiles of answering"),
    "data.fix_share": ((0,), "training has the tiles of answering"),
    "memory_gb": ((0,), "what bags of tiles take is not counted"),
    "data.geometry_version": ((2,), "tiles began with version 2"),
    "compile": ((False,), "the number of tiles changes from picture to picture"),
    "auto_batch": ((False,), "it measures squares; say micro_batch yourself"),
}
_FROZEN = "the frozen network sees each tile once, before training"
_OF_THE_BAG = ("tiles.bag", "tiles.drawn", "augment")


def with_tiles(config: TrainConfig, frozen: bool) -> TrainConfig:
    """The recipe for bags of tiles: small batches, and nothing that takes one square for a picture.

    frozen: only attention and last layer will learn; then the rate is ten times that of all layers, which was better
    than a third of it (docs/experiments.md).
    """
    config.data.geometry = "tiles"
    config.data.start_scale, config.data.crop_ratio, config.data.train_size = 1.0, 1.0, 0
    if config.augment.crop == "resized":
        config.augment.crop = "none"
    config.augment.mixup = config.augment.cutmix = 0.0
    config.batch = min(config.batch, 8)
    config.optimizer.name, config.optimizer.lr, config.optimizer.weight_decay = "adamw", 1e-2 if frozen else 1e-3, 1e-2
    return config


def check_tiles(config: TrainConfig, changes: Mapping[str, Any]) -> None:
    """Raises UsageError for what a picture that is cut into tiles leaves no room for, and for options of tiles where
    none are cut.
    """
    if config.data.geometry != TILES:
        if asked := [name for name in changes if name.startswith("tiles.")]:
            raise UsageError(
                f"{', '.join(asked)} has no effect while data.geometry is {config.data.geometry}",
                hint="leave it out, or use --set data.geometry=tiles",
            )
        return
    for name, (allowed, why) in _ONLY.items():
        section, _, field = name.rpartition(".")
        value = getattr(getattr(config, section) if section else config, field)
        if value not in allowed:
            raise UsageError(
                f"{name}={value} does not go with data.geometry=tiles: {why}",
                hint=f"leave it out{_or(allowed)}; see docs/tiles.md",
            )
    named = changes.get("model.options.attention", dict(changes.get("model.options") or {}).get("attention"))
    if named not in (None, config.tiles.attention):
        raise UsageError(
            f"model.options.attention={named} has no effect: tiles.attention={config.tiles.attention} decides it",
            hint=f"use --set tiles.attention={named}",
        )
    if config.model.freeze == "backbone":
        if config.budget_seconds:
            raise UsageError(
                f"a budget does not go with data.geometry=tiles and model.freeze=backbone: {_FROZEN}, and that is not "
                "measured",
                hint="say --epochs",
            )
        for name in changes:
            if name.startswith(_OF_THE_BAG):
                raise UsageError(
                    f"{name} has no effect with data.geometry=tiles and model.freeze=backbone: {_FROZEN}",
                    hint="leave it out, or let other layers learn",
                )


def decide_tiles(config: TrainConfig, changes: Mapping[str, Any], known: bool) -> None:
    """Sets what was left open about tiles. known: whether there are weights that have attention over tiles.

    Raises UsageError for a stride that leaves out parts, and for a start with weights that are not there.
    """
    if config.data.geometry != TILES:
        config.tiles = TilesConfig()  # of weights that were trained with tiles
        return
    tiles = config.tiles
    tiles.side = tiles.side or config.data.image_size
    tiles.stride = tiles.stride or max(1, tiles.side // 2)
    tile_geometry(config)
    if known and "tiles.start" not in changes:
        tiles.start = "weights"
    if tiles.start == "weights" and not known:
        raise UsageError("tiles.start=weights: no weights are given that have attention over tiles")


def tile_geometry(config: TrainConfig) -> Geometry:
    """How pictures are cut."""
    data, tiles = config.data, config.tiles
    size, how = data.image_size, data.interpolation
    return Geometry("tiles", size, size, how, data.geometry_version, tile=tiles.side, stride=tiles.stride)


def _or(allowed: tuple[Any, ...]) -> str:
    shown = [str(value) for value in allowed if value not in (None, False)]
    return f", or use {' or '.join(shown)}" if shown else ""
