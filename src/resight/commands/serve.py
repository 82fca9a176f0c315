"""``resight serve``: Runs behind HTTP, until a signal. Needs the extra ``serve``, and no PyTorch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from resight.commands.extras import need
from resight.commands.predict import resolve_run
from resight.errors import UsageError
from resight.images import MAX_PIXELS, printable
from resight.inference import AUTO, BATCH, check_backend
from resight.inference.backend import thread_count
from resight.inference.choose import only_choice
from resight.inference.tiled import only_whole
from resight.runs import Run, open_artifact

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)


def serve(
    runs: Sequence[str | Path] | str | Path,
    *,
    names: Sequence[str] = (),
    host: str = "127.0.0.1",
    port: int = 8000,
    artifact: str | None = None,
    backend: str = AUTO,
    threads: int | None = None,
    batch: int = BATCH,
    queue: int = 64,
    deadline: float = 10.0,
    max_bytes: int = 32 * 2**20,
    max_pixels: int = MAX_PIXELS,
    allow_hosts: Sequence[str] = (),
) -> None:
    """Answer over HTTP until a signal; docs/serve.md says what is answered.

    runs: Runs' directories, or tags and weights files as of ``predict``; each may be ``NAME=RUN``. names: of the
    models, as many as runs; default: the directories' names. artifact: answer with what was exported from each Run
    under this name. The other arguments: :class:`resight.serving.Limits`.

    Raises MissingExtra without the extra ``serve``; RunError for a Run that is missing, unfinished or has no sound card
    (what else is wrong with it is found while it loads: the server then is not ready, and says why); UsageError for
    names that cannot stand in an address, and a port that is taken.
    """
    need("resight serve", "serve", "starlette", "uvicorn", "python_multipart", "prometheus_client")
    from resight.serving.limits import Limits
    from resight.serving.server import run

    limits = Limits(
        threads=thread_count(threads),
        batch=batch,
        queue=queue,
        deadline=deadline,
        max_bytes=max_bytes,
        max_pixels=max_pixels,
    )
    check_backend(backend)
    found = named_runs([runs] if isinstance(runs, (str, Path)) else list(runs), names)
    for path in found.values():
        only_whole(Run.open(path, verify=False), "resight serve")
    if artifact is not None:
        for path in found.values():
            only_choice(backend, open_artifact(Run.open(path, verify=False), artifact))
    run(found, host=host, port=port, artifact=artifact, backend=backend, limits=limits, allow_hosts=allow_hosts)


def named_runs(runs: Sequence[str | Path], names: Sequence[str] = ()) -> dict[str, Path]:
    """The path of each Run by the name that it is served under, the default first. Raises as ``serve``."""
    if not runs:
        raise UsageError("no Run is given")
    if names and len(names) != len(runs):
        raise UsageError(f"{len(names)} names for {len(runs)} Runs; expected one for each, in their order")
    found: dict[str, Path] = {}
    for position, given in enumerate(runs):
        own, source = _split(given)
        if names and own:
            raise UsageError(f"{printable(str(given))} has a name, and --name gives another: give one of them")
        opened = resolve_run(source)
        name = names[position] if names else own or Path(source).absolute().name
        if not _NAME.fullmatch(name):
            raise UsageError(
                f"{printable(name)!r} cannot be a model's name: letters, digits, '.', '_' and '-', at most 64",
                hint=f"give it one: resight serve NAME={printable(str(source))}",
            )
        if name in found:
            raise UsageError(f"two Runs have the name {name!r}", hint=f"give one: resight serve NAME={opened.path}")
        found[name] = opened.path
    return found


def _split(given: str | Path) -> tuple[str, str]:
    """(name, source) of ``NAME=RUN``; a path that exists is one, whatever it contains."""
    text = str(given)
    name, equals, source = text.partition("=")
    if isinstance(given, Path) or not equals or Path(text).exists():
        return "", text
    return name, source
