"""The endpoints: thin, over ``Service``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp

from resight.errors import ImageError
from resight.images import printable
from resight.inference import Prediction, dump_json, plain
from resight.serving import heat, protocol
from resight.serving.batcher import Row
from resight.serving.metrics import CONTENT_TYPE
from resight.serving.middleware import Guard, Hosts
from resight.serving.models import Loaded, Slot
from resight.serving.openapi import document
from resight.serving.page import INDEX, PageFile, read_page
from resight.serving.refusals import Refused, malformed, refused_image, status_of
from resight.serving.service import Service
from resight.serving.uploads import File, read_all, read_files

EXTENSIONS = ["binary_tensor_data", "classification"]


def make_app(service: Service, hosts: Hosts) -> ASGIApp:
    """The whole application. Models are opened from its start-up on, and closed at its end."""

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        opening = asyncio.create_task(service.models.run())
        try:
            yield
        finally:
            opening.cancel()
            with suppress(asyncio.CancelledError):
                await opening
            service.close()

    ends = Endpoints(service, read_page())
    get, post = ["GET"], ["POST"]
    table: list[tuple[str, Callable[..., Any], list[str]]] = [
        ("/", ends.index, get),
        ("/page/{name}", ends.page_file, get),
        ("/models", ends.models, get),
        ("/models/{name}/card", ends.card, get),
        ("/predict", ends.predict, post),
        ("/explain", ends.explain, post),
        ("/metrics", ends.metrics, get),
        ("/openapi.json", ends.openapi, get),
        ("/v2", ends.server_metadata, get),
        ("/v2/health/live", ends.live, get),
        ("/v2/health/ready", ends.ready, get),
    ]
    for model in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
        table += [
            (model, ends.model_metadata, get),
            (f"{model}/ready", ends.model_ready, get),
            (f"{model}/infer", ends.infer, post),
        ]
    routes = [Route(path, endpoint, methods=methods) for path, endpoint, methods in table]
    router = Router(routes, redirect_slashes=False, lifespan=lifespan)
    return Guard(router, hosts, service.metrics)


class Endpoints:
    """One method for each; their names are the ``endpoint`` of the metrics."""

    def __init__(self, service: Service, page: dict[str, PageFile]) -> None:
        self.service, self._page = service, page

    async def index(self, request: Request) -> Response:
        return self._file(INDEX)

    async def page_file(self, request: Request) -> Response:
        return self._file(request.path_params["name"])

    def _file(self, name: str) -> Response:
        if name not in self._page:
            raise Refused(404, "missing", "the page has no such file")
        headers = {"Cache-Control": "no-cache"}
        return Response(self._page[name].content, headers=headers, media_type=self._page[name].type)

    async def models(self, request: Request) -> Response:
        slots = self.service.models.slots.values()
        return _json({"models": [_entry(slot, default=number == 0) for number, slot in enumerate(slots)]})

    async def card(self, request: Request) -> Response:
        return _json(self._model(request).card)

    async def metrics(self, request: Request) -> Response:
        return Response(self.service.metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    async def openapi(self, request: Request) -> Response:
        return _json(document(self.service.limits))

    async def live(self, request: Request) -> Response:
        return _json({"live": True})

    async def ready(self, request: Request) -> Response:
        if why := self.service.unready:
            return _json({"ready": False, "error": why, "request_id": request.state.request_id}, 503)
        return _json({"ready": True})

    async def server_metadata(self, request: Request) -> Response:
        return _json({"name": "resight", "version": version("resight"), "extensions": EXTENSIONS})

    async def model_metadata(self, request: Request) -> Response:
        model = self._model(request)
        slot = self.service.models.slot(model.name)
        inputs, outputs = protocol.describe(model)
        parameters: dict[str, Any] = {"state": slot.state, "exactly_one_input": True, "opened": slot.opened}
        if slot.error is not None:
            parameters["reload_error"] = slot.error
        return _json(
            {
                "name": model.name,
                "versions": [model.version],
                "platform": f"{model.predictor.choice.name}_onnx",
                "inputs": inputs,
                "outputs": outputs,
                "parameters": parameters,
            }
        )

    async def model_ready(self, request: Request) -> Response:
        model = self._model(request)
        self._refuse_draining()
        return _json({"name": model.name, "ready": True})

    async def predict(self, request: Request) -> Response:
        query = _query(request, ("model", "top"))
        model, top = self.service.models.get(query.get("model")), _top(query)
        with self.service.admission.ticket() as ticket:
            files = await read_files(request.receive, request.headers, self.service.limits, ticket)
            ticket.take(pictures=len(files))
            self._note(request, model, len(files))
            work = self.service.answer(model, [file.data for file in files], model.predictor.needed)
            rows = await self.service.in_time(work, request.receive)
        if len(files) == 1 and isinstance(rows[0], ImageError):
            raise refused_image(rows[0])
        found = [self._item(model, file, row, top) for file, row in zip(files, rows, strict=True)]
        head = {"request_id": request.state.request_id, "model": model.name, "version": model.version}
        return _json(head | {"predictions": found})

    def _item(self, model: Loaded, file: File, row: Row | ImageError, top: int) -> dict[str, Any]:
        """What is answered for one of the files: an object of ``resight predict --json``."""
        if isinstance(row, ImageError):
            status, reason = status_of(row)
            self.service.metrics.rejections.labels(reason).inc()
            return plain(Prediction(file.name, None, None, error=row.reason)) | {"status": status}
        values = [row[name] for name in model.predictor.needed]
        return plain(model.predictor.prediction(file.name, values, top))

    async def explain(self, request: Request) -> Response:
        query = _query(request, ("model", "class"))
        model = self.service.models.get(query.get("model"))
        if model.head is None:
            raise Refused(404, "missing", f"the model {model.name} cannot be explained: {model.no_head}")
        wanted = _class(query, model)
        with self.service.admission.ticket() as ticket:
            files = await read_files(request.receive, request.headers, self.service.limits, ticket)
            if len(files) != 1:
                raise malformed(f"expected exactly one picture, found {len(files)}")
            ticket.take(pictures=1)
            self._note(request, model, 1)
            work = self._explained(model, files[0].data, wanted)
            png, target, probability = await self.service.in_time(work, request.receive)
        headers = {
            "Resight-Class": quote(model.predictor.classes[target], safe="", errors="surrogateescape"),
            "Resight-Probability": str(probability),
        }
        return Response(png, headers=headers, media_type="image/png")

    async def _explained(self, model: Loaded, data: bytes, wanted: int | None) -> tuple[bytes, int, Any]:
        assert model.head is not None
        head, card = model.head, model.predictor.card
        row = (await self.service.answer(model, [data], heat.OUTPUTS))[0]
        if isinstance(row, ImageError):
            raise refused_image(row)
        found: Row = row
        target = int(found["probabilities"].argmax()) if wanted is None else wanted

        def draw() -> bytes:
            picture = heat.shown(data, card.channels, self.service.limits)
            return heat.draw(picture, found, head, card.geometry, target)

        return await self.service.decoder.run(draw), target, found["probabilities"][target]

    async def infer(self, request: Request) -> Response:
        model, limits = self._model(request), self.service.limits
        with self.service.admission.ticket() as ticket:
            body = await read_all(request.receive, request.headers, limits, ticket)
            length = request.headers.get(protocol.LENGTH_HEADER)
            question = await self.service.decoder.run(lambda: protocol.parse(body, length, model, limits.json_bytes))
            if len(question.pictures) > limits.files:
                raise Refused(
                    413, "too_large", f"more than {limits.files} pictures in one request: send them in several"
                )
            ticket.take(pictures=len(question.pictures))
            self._note(request, model, len(question.pictures))
            work = self.service.answer(model, question.pictures, protocol.needed(question.outputs))
            rows = await self.service.in_time(work, request.receive, question.seconds)
        good = [row for row in rows if not isinstance(row, ImageError)]
        for position, row in enumerate(rows):
            if isinstance(row, ImageError):
                raise refused_image(row, f"picture {position} of image: ")
        content, headers = protocol.respond(question, model, good)
        return Response(content, headers=headers)

    def _model(self, request: Request) -> Loaded:
        return self.service.models.get(request.path_params["name"], request.path_params.get("version"))

    def _refuse_draining(self) -> None:
        if self.service.admission.draining:
            self.service.admission.check()

    def _note(self, request: Request, model: Loaded, pictures: int) -> None:
        """For the request's line in the log."""
        request.state.log.update(model=model.name, version=model.version, pictures=pictures)


def _entry(slot: Slot, *, default: bool) -> dict[str, Any]:
    """One line of ``/models``; what is not known before a model is opened is null."""
    card = slot.loaded.predictor.card if slot.loaded else None
    return {
        "name": slot.name,
        "version": slot.loaded.version if slot.loaded else None,
        "ready": slot.loaded is not None,
        "classes": len(card.classes) if card else None,
        "size": card.geometry.size if card else None,
        "task": card.task if card else None,
        "default": default,
    }


def _json(value: Any, status: int = 200) -> Response:
    return Response(dump_json(value).encode("utf-8"), status, media_type="application/json")


def _query(request: Request, known: Collection[str]) -> dict[str, str]:
    """The parameters, each once. Raises Refused for others: one without an effect would be a lie."""
    pairs = request.query_params.multi_items()
    found = dict(pairs)
    if len(found) != len(pairs):
        raise malformed("a parameter is given twice")
    if strange := [name for name in found if name not in known]:
        raise malformed(f"there is no parameter {printable(strange[0], 100)!r}; known: {', '.join(known)}")
    return found


def _top(query: dict[str, str]) -> int:
    text = query.get("top", "5")
    if not (text.isascii() and text.isdigit() and len(text) < 6 and int(text) >= 1):
        raise malformed("top is not a whole number from 1 to 99999")
    return int(text)


def _class(query: dict[str, str], model: Loaded) -> int | None:
    name = query.get("class")
    if name is not None and name not in model.predictor.classes:
        raise Refused(404, "missing", f"the model {model.name} has no class {printable(name, 100)!r}")
    return None if name is None else model.predictor.classes.index(name)
