"""``program``: the network as torch.export writes it, for programs in PyTorch and what follows from it."""

from __future__ import annotations

import zipfile
from pathlib import Path

from resight.exporting.about import ABOUT, about, from_file, to_file
from resight.exporting.gate import Answer
from resight.exporting.targets.written import Written
from resight.inference.backend import Floats, Pixels
from resight.runs import Artifact, Run

PROGRAM = "model.pt2"


def write(run: Run, folder: Path) -> Written:
    """Of the weights in ``model.safetensors``; any batch. Its outputs are those of model.onnx, in the same order."""
    import torch

    from resight.exporting.onnx import Answering
    from resight.models.from_run import network_of

    card = run.card
    answering = Answering(network_of(run), card.mean, card.std, card.temperature, card.task)
    pixels = torch.zeros(2, card.geometry.size, card.geometry.size, card.channels, dtype=torch.uint8)
    shapes = {"pixels": {0: torch.export.Dim("batch", min=1)}}
    program = torch.export.export(answering, (pixels,), dynamic_shapes=shapes)
    files = {ABOUT: to_file(about(card))}
    torch.export.save(program, folder / PROGRAM, extra_files=files)
    notes = [
        "torch.export.load may run code that a stranger put into a .pt2: open only files that you made",
        "outputs in order: probabilities, logits, embedding, features",
    ]
    return Written(PROGRAM, notes, ["torch"])


def said(artifact: Artifact) -> dict[str, str]:
    """A ``.pt2`` is a zip; reading one file of it runs nothing."""
    with zipfile.ZipFile(artifact.graph) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(f"/{ABOUT}"))
        return from_file(archive.read(name).decode("utf-8"))


def answer(_: Run, artifact: Artifact, threads: int) -> Answer:
    """Loaded again: the file that was just written, and no other."""
    import torch

    artifact.verify()
    program = torch.export.load(artifact.graph).module()

    def ask(pixels: Pixels) -> Floats:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            with torch.inference_mode():
                found: Floats = program(torch.from_numpy(pixels))[0].numpy()
        finally:
            torch.set_num_threads(before)
        return found

    return ask
