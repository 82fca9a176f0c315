"""A stand-in for `resight serve`, as much of it as the page asks for: the real Predictor behind the same routes."""

from __future__ import annotations

import json
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from resight.errors import ImageError, ImageTooLarge, UnsupportedImage
from resight.explaining import class_activation, enlarge, overlay, read_head
from resight.images import decode
from resight.inference import Predictor
from resight.inference.writers import json_text
from resight.runs import Run

PAGE = Path(__file__).parents[2] / "src/resight/serving/page"
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; media-src 'self' blob:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
LIMIT = 5 * 2**20


def application(runs: Mapping[str, Run]) -> Starlette:
    predictors = {name: Predictor(run, threads=1) for name, run in runs.items()}
    first = next(iter(runs))

    async def page(request: Request) -> Response:
        path = PAGE / request.path_params.get("name", "index.html")
        return Response(path.read_bytes(), media_type=TYPES[path.suffix], headers=HEADERS)

    async def models(request: Request) -> Response:
        found = [
            {
                "name": name,
                "version": "1",
                "ready": True,
                "classes": len(run.classes),
                "size": run.card.geometry.size,
                "task": run.card.task,
                "default": name == first,
            }
            for name, run in runs.items()
        ]
        return JSONResponse({"models": found})

    async def card(request: Request) -> Response:
        return JSONResponse(card_of(request.path_params["name"], runs[request.path_params["name"]]))

    async def predict(request: Request) -> Response:
        name, _, predictor, file = await _asked(request)
        if (refused := _refusal(file[1])) is not None:
            return refused
        found = next(iter(predictor.predict([file[1]], top=int(request.query_params.get("top", 5)))))
        (plain,) = json.loads("".join(json_text([found])))
        plain["source"] = file[0]
        return JSONResponse({"request_id": "stub", "model": name, "version": "1", "predictions": [plain]})

    async def explain(request: Request) -> Response:
        _, run, predictor, (_, data) = await _asked(request)
        if (refused := _refusal(data)) is not None:
            return refused
        from resight.reporting.explanations import png

        features, rows = predictor.ask(predictor.square(data)[None], ("features", "probabilities"))
        k = run.classes.index(request.query_params["class"])
        (heat,) = class_activation(features, read_head(run).weights[k][None])
        picture = overlay(enlarge(decode(data, channels=run.card.channels)), heat, run.card.geometry)
        said = {"Resight-Class": quote(run.classes[k]), "Resight-Probability": str(rows[0, k])}
        return Response(png(picture), media_type="image/png", headers=said)

    async def ready(request: Request) -> Response:
        return JSONResponse({"ready": True})

    async def _asked(request: Request) -> tuple[str, Run, Predictor, tuple[str, bytes]]:
        name = request.query_params.get("model", first)
        async with request.form() as form:
            file = next(value for value in form.values() if isinstance(value, UploadFile))
            return name, runs[name], predictors[name], (file.filename or "", await file.read())

    return Starlette(
        routes=[
            Route("/", page),
            Route("/page/{name}", page),
            Route("/models", models),
            Route("/models/{name}/card", card),
            Route("/predict", predict, methods=["POST"]),
            Route("/explain", explain, methods=["POST"]),
            Route("/v2/health/ready", ready),
        ]
    )


def card_of(name: str, run: Run) -> dict[str, Any]:
    card = run.card
    part = "test" if "test" in card.metrics else "val"
    return {
        "name": name,
        "version": "1",
        "architecture": {"name": card.architecture.name, "parameters": card.architecture.parameters},
        "task": card.task,
        "classes": list(card.classes),
        "channels": card.channels,
        "geometry": card.geometry.to_dict(),
        "metrics": card.metrics.get(part, {}),
        "part": part,
        "parity": card.parity,
        "unknown": card.unknown or None,
        "artifact": None,
        "data": {"counts": card.data.get("counts", {})},
        "created": card.created,
        "recipe": card.recipe,
        "limits": {"megapixels": 64, "bytes": LIMIT, "formats": ["JPEG", "PNG", "WebP", "GIF", "BMP"], "files": 64},
    }


def _refusal(data: bytes) -> Response | None:
    try:
        decode(data)
    except ImageError as error:
        status = 413 if isinstance(error, ImageTooLarge) else 415 if isinstance(error, UnsupportedImage) else 422
        said = {"error": error.reason, "request_id": uuid.uuid4().hex}
        return JSONResponse(said, status, headers={"X-Request-Id": said["request_id"]})
    return None


@contextmanager
def served(runs: Mapping[str, Run]) -> Iterator[str]:
    """The address of a server of these Runs, on a port of its own, in a thread."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(application(runs), log_level="warning", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join()
