"""``resight preview``: one augmented batch as a picture, as the network will see it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resight.commands.extras import need
from resight.commands.whole_only import refuse_tiles
from resight.errors import UsageError

_COLUMNS, _MARGIN, _TEXT = 8, 4, 14


def preview(
    data: str | Path,
    *,
    recipe: str | None = None,
    image_size: int | None = None,
    channels: int | None = None,
    seed: int | None = None,
    out: str | Path = "preview.png",
    set: Mapping[str, Any] | None = None,
) -> Path:
    """Writes a contact sheet of the first 32 augmented training pictures, each with its class; returns its path.

    They have the size that training ends with; of other channels than grey and RGB, ``resight.images.visible``
    shows some; mixup and cutmix are shown mixed. Raises UsageError, DataError.
    """
    need("preview", "train", "torch", "pydantic")
    from resight import samples as data_sets
    from resight.recipes import TrainConfig, override
    from resight.training import named, prepare, reading
    from resight.training.loader import TrainLoader

    wishes = {"data.image_size": image_size, "data.channels": channels, "seed": seed}
    wishes = {name: value for name, value in wishes.items() if value is not None} | dict(set or {})
    refuse_tiles(wishes, "resight preview")
    if "data.fix_share" in wishes:
        raise UsageError(
            "data.fix_share has no effect on the preview, which shows what comes before", hint="leave it out"
        )
    asked = override(TrainConfig(), wishes)
    samples = data_sets.load(named.data_path(data), seed=asked.seed)
    sizes = prepare.some_sizes(samples)
    config, _ = prepare.configure(samples, sizes, wishes, recipe)
    prepare.resolve_steps(config, len(samples.part("train")))
    config.batch = min(32, config.batch)
    config.data.start_scale = 1.0  # pictures that grow are shown at the size they end with
    batch = TrainLoader(reading.train_pictures(samples, config), config).make(0)
    pixels = _augmented(config, batch)
    part = samples.part("train")
    names = [samples.label_text(part[int(index)]) or "(no label)" for index in batch.indices]
    return _sheet(pixels, names, Path(out))


def _augmented(config: Any, batch: Any) -> Any:
    """uint8 (B, S, S, C), augmented and mixed, at the size of training."""
    import torch

    from resight.training.augment import apply, draw_mix, mix

    pixels = apply(config.augment, batch.pixels, batch.parameters)
    how = draw_mix(config.augment, config.seed, batch.step)
    if how is not None:
        mixed, _ = mix(pixels.float(), torch.zeros(len(pixels), 1), how)
        pixels = mixed.round().to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).numpy()


def _sheet(pixels: Any, names: list[str], out: Path) -> Path:
    import io

    from PIL import Image, ImageDraw

    from resight.images import printable, visible
    from resight.runs.storage import write_atomic

    size = pixels.shape[1]
    scale = max(1, round(96 / size))  # small pictures are shown larger, pixel by pixel
    cell = size * scale
    rows = -(-len(pixels) // _COLUMNS)
    width = _MARGIN + _COLUMNS * (cell + _MARGIN)
    sheet = Image.new("RGB", (width, _MARGIN + rows * (cell + _TEXT + _MARGIN)), "white")
    pen = ImageDraw.Draw(sheet)
    for number, (picture, name) in enumerate(zip(pixels, names, strict=True)):
        row, column = divmod(number, _COLUMNS)
        x, y = _MARGIN + column * (cell + _MARGIN), _MARGIN + row * (cell + _TEXT + _MARGIN)
        shown = visible(picture)
        image = Image.fromarray(shown[..., 0] if shown.shape[2] == 1 else shown).convert("RGB")
        sheet.paste(image.resize((cell, cell), Image.Resampling.NEAREST), (x, y))
        label = printable(name)
        while label and pen.textlength(label) > cell:
            label = label[:-1]
        pen.text((x, y + cell + 1), label, fill="black")
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    write_atomic(out, buffer.getvalue())
    return out
