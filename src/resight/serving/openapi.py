"""The OpenAPI 3.1 document of the server."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from resight.serving.limits import Limits

_TEXT: dict[str, Any] = {"type": "string"}
_NUMBER: dict[str, Any] = {"type": "number"}
_WHOLE: dict[str, Any] = {"type": "integer"}
_SHARE: dict[str, Any] = {"type": "number", "minimum": 0, "maximum": 1}
_ERRORS = {
    400: "Malformed", 403: "Asked by a page of another site", 404: "No such model, version or class",
    408: "The body came too slowly", 413: "Too many bytes, pixels or pictures", 415: "A type that is not accepted",
    421: "Asked by a foreign host name", 422: "A broken picture", 429: "Too many pictures are waiting",
    503: "Loading, failed to load, or stopping", 504: "No answer in time",
}  # fmt: skip
_ALWAYS = (400, 403, 421)
_LOOKS = (*_ALWAYS, 404, 503)
_WORKS = (*_LOOKS, 408, 413, 415, 422, 429, 504)


def document(limits: Limits) -> dict[str, Any]:
    """Plain values for ``/openapi.json``."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Resight",
            "version": version("resight"),
            "description": "Image classification. /v2 is the Open Inference Protocol.",
        },
        "paths": _simple(limits) | _protocol(),
        "components": {"schemas": _schemas(limits)},
    }


def _simple(limits: Limits) -> dict[str, Any]:
    model = _parameter("model", "query", _TEXT, "A name of /models; default: the first")
    top = _parameter("top", "query", {"type": "integer", "minimum": 1, "maximum": 99999, "default": 5}, "Best classes")
    name = _parameter("name", "path", _TEXT, "A name of /models")
    chosen = _parameter("class", "query", _TEXT, "Default: the most probable one")
    html = {"description": "The page", "content": {"text/html": {"schema": _TEXT}}}
    text = {"description": "Prometheus", "content": {"text/plain": {"schema": _TEXT}}}
    image = {
        "description": "The picture with the map over it",
        "content": {"image/png": {"schema": {"type": "string", "format": "binary"}}},
        "headers": {
            "Resight-Class": {"schema": _TEXT, "description": "Percent-encoded"},
            "Resight-Probability": {"schema": _TEXT},
        },
    }
    return {
        "/": {"get": _operation("index", "The page", html, _ALWAYS)},
        "/models": {"get": _operation("models", "All models", _ok(_ref("Models")), _ALWAYS)},
        "/models/{name}/card": {"get": _operation("card", "What a model is", _ok(_any()), _LOOKS, [name])},
        "/predict": {
            "post": _operation("predict", "What is in pictures", _ok(_ref("Answers")), _WORKS, [model, top])
            | {"requestBody": _upload(limits.files)}
        },
        "/explain": {
            "post": _operation("explain", "Where the network looked", image, _WORKS, [model, chosen])
            | {"requestBody": _upload(1)}
        },
        "/metrics": {"get": _operation("metrics", "Metrics", text, _ALWAYS)},
        "/openapi.json": {"get": _operation("openapi", "This document", _ok(_any()), _ALWAYS)},
    }


def _protocol() -> dict[str, Any]:
    name = _parameter("name", "path", _TEXT, "A name of /models")
    number = _parameter("version", "path", _TEXT, "The version that its metadata names")
    paths: dict[str, Any] = {
        "/v2": {"get": _operation("server_metadata", "The server", _ok(_any()), _ALWAYS)},
        "/v2/health/live": {"get": _operation("live", "Alive", _ok(_any()), _ALWAYS)},
        "/v2/health/ready": {"get": _operation("ready", "All models answer", _ok(_any()), (*_ALWAYS, 503))},
    }
    for path, parameters in (("/v2/models/{name}", [name]), ("/v2/models/{name}/versions/{version}", [name, number])):
        kind = "version" if number in parameters else "model"
        infer = _operation(f"infer_{kind}", "Ask", _ok(_ref("Response")), _WORKS, parameters)
        body = {"application/json": {"schema": _ref("Request")}}
        paths |= {
            path: {"get": _operation(f"metadata_{kind}", "Inputs and outputs", _ok(_any()), _LOOKS, parameters)},
            f"{path}/ready": {"get": _operation(f"ready_{kind}", "It answers", _ok(_any()), _LOOKS, parameters)},
            f"{path}/infer": {"post": infer | {"requestBody": {"required": True, "content": body}}},
        }
    return paths


def _schemas(limits: Limits) -> dict[str, Any]:
    pair = _object({"class": _TEXT, "probability": _SHARE})
    pairs = {"type": "array", "items": pair}
    nothing: dict[str, Any] = {"type": "null"}
    answer = _object(
        {
            "source": _TEXT,
            "label": {"type": ["string", "null"]},
            "probability": {"type": ["number", "null"]},
            "top": pairs,
            "error": {"type": ["string", "null"]},
            "unknown": {"type": ["boolean", "null"]},
            "score": {"anyOf": [nothing, _object({"name": _TEXT, "value": _NUMBER, "threshold": _NUMBER})]},
        }
    )
    answer["properties"] |= {"labels": pairs, "route": _TEXT, "status": _WHOLE}
    head = {"request_id": _TEXT, "model": _TEXT, "version": _TEXT}
    maybe = {"type": ["integer", "null"]}
    shown = {"name": _TEXT, "version": {"type": ["string", "null"]}, "ready": {"type": "boolean"}, "classes": maybe}
    shown |= {"size": maybe, "task": {"type": ["string", "null"]}, "default": {"type": "boolean"}}
    tensor = _object({"name": _TEXT, "datatype": _TEXT, "shape": {"type": "array", "items": _WHOLE}})
    result = {**tensor, "properties": {**tensor["properties"], "data": {"type": "array"}, "parameters": _any()}}
    return {
        "Error": _object({"error": _TEXT, "request_id": _TEXT}),
        "Models": _object({"models": {"type": "array", "items": _object(shown)}}),
        "Answers": _object(head | {"predictions": {"type": "array", "items": answer, "maxItems": limits.files}}),
        "Request": _request(),
        "Response": {
            **_object({"model_name": _TEXT, "model_version": _TEXT, "outputs": {"type": "array", "items": result}}),
            "description": "With ``id`` where the request has one.",
        },
    }


def _request() -> dict[str, Any]:
    flag = {"type": "boolean"}
    whole = {"type": "integer", "minimum": 0}
    binary = {"type": "object", "properties": {"binary_data_size": whole}, "additionalProperties": False}
    image = {
        "name": {"const": "image"},
        "datatype": {"const": "BYTES"},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1, "maxItems": 1},
        "parameters": binary,
        "data": {"type": "array", "items": {"type": "string", "contentEncoding": "base64"}, "minItems": 1},
    }
    pixels = {
        "name": {"const": "pixels"},
        "datatype": {"const": "UINT8"},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 4, "maxItems": 4},
        "parameters": binary,
        "data": {"type": "array"},
    }
    needed = ["name", "datatype", "shape"]
    inputs = [
        {"type": "object", "properties": one, "required": needed, "additionalProperties": False}
        for one in (pixels, image)
    ]
    wanted = {
        "type": "object",
        "properties": {
            "name": {"enum": ["probabilities", "logits", "embedding", "label", "unknown_score"]},
            "parameters": {
                "type": "object",
                "properties": {"binary_data": flag, "classification": whole},
                "additionalProperties": False,
            },
        },
        "required": ["name"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {
            "id": _TEXT,
            "parameters": {
                "type": "object",
                "properties": {"binary_data_output": flag, "timeout": whole},
                "additionalProperties": False,
            },
            "inputs": {"type": "array", "items": {"oneOf": inputs}, "minItems": 1, "maxItems": 1},
            "outputs": {"type": "array", "items": wanted, "maxItems": 5},
        },
        "required": ["inputs"],
        "additionalProperties": False,
    }


def _operation(
    name: str,
    summary: str,
    found: dict[str, Any],
    errors: tuple[int, ...],
    parameters: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    failed = {"application/json": {"schema": _ref("Error")}}
    responses = {"200": found}
    responses |= {str(code): {"description": _ERRORS[code], "content": failed} for code in sorted(errors)}
    return {"operationId": name, "summary": summary, "parameters": parameters or [], "responses": responses}


def _upload(files: int) -> dict[str, Any]:
    binary = {"type": "string", "format": "binary"}
    form = {
        "type": "object",
        "properties": {"file": {"type": "array", "items": binary, "minItems": 1, "maxItems": files}},
        "required": ["file"],
        "additionalProperties": False,
    }
    return {
        "required": True,
        "content": {"multipart/form-data": {"schema": form}, "image/*": {"schema": binary}},
    }


def _parameter(name: str, place: str, schema: dict[str, Any], meaning: str) -> dict[str, Any]:
    return {"name": name, "in": place, "required": place == "path", "schema": schema, "description": meaning}


def _ok(schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": "Answered", "content": {"application/json": {"schema": schema}}}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _any() -> dict[str, Any]:
    return {"type": "object"}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": dict(properties), "required": list(properties)}
