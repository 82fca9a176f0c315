"""`resight serve`: thin, over ``resight.commands.serve``."""

from __future__ import annotations

from typing import Annotated

import typer

from resight.cli.options import ArtifactName, Backend, Batch, Threads
from resight.errors import UsageError


def serve(
    runs: Annotated[list[str], typer.Argument(metavar="[NAME=]RUN…", help="Runs to serve; the first is the default.")],
    name: Annotated[
        list[str] | None, typer.Option(help="The name of a model, for each Run in turn; default: its folder's name.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0: all of this machine's.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8000,
    artifact: ArtifactName = None,
    backend: Backend = "auto",
    threads: Threads = None,
    batch: Batch = 8,
    queue: Annotated[int, typer.Option(min=1, help="Most pictures that wait or are computed; more get 429.")] = 64,
    deadline: Annotated[float, typer.Option(metavar="SECONDS", help="Time for an answer; then 504.")] = 10.0,
    max_bytes: Annotated[int, typer.Option(min=1, help="Most bytes of a request's body; more get 413.")] = 32 * 2**20,
    max_megapixels: Annotated[float, typer.Option(help="Largest picture, in million pixels; more get 413.")] = 64.0,
    allow_host: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A further name that the server is asked by; repeatable.")
    ] = None,
) -> None:
    """Answer over HTTP, with a page, until SIGTERM or Ctrl-C; SIGHUP opens the Runs anew. See docs/serve.md."""
    from resight.commands.serve import serve

    if not 0 < max_megapixels < 100_000:
        raise UsageError(f"--max-megapixels {max_megapixels:g}: expected more than 0")
    serve(
        runs,
        names=name or (),
        host=host,
        port=port,
        artifact=artifact,
        backend=backend,
        threads=threads,
        batch=batch,
        queue=queue,
        deadline=deadline,
        max_bytes=max_bytes,
        max_pixels=max(1, round(max_megapixels * 1e6)),
        allow_hosts=allow_host or (),
    )
