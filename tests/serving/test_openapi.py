"""The OpenAPI document describes what is there, and no request made from it gives a 5xx."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

from .live import Live, encoded

OPEN = ("/page/{name}",)


def document(live: Live) -> dict[str, Any]:
    found: dict[str, Any] = live.client.get("/openapi.json").json()
    return found


def test_every_path_is_described(live: Live) -> None:
    from resight.serving.app import Endpoints

    found = document(live)
    assert found["openapi"] == "3.1.0"
    ids = {operation["operationId"] for path in found["paths"].values() for operation in path.values()}
    named = {name.removesuffix("_model").removesuffix("_version") for name in ids}
    methods = {name for name in vars(Endpoints) if not name.startswith("_")} - {"page_file"}
    assert named == {name.removeprefix("model_") for name in methods}
    assert len(ids) == sum(len(path) for path in found["paths"].values())


def test_answers_fit_their_schemas(live: Live) -> None:
    validator = pytest.importorskip("jsonschema_rs")
    found = document(live)
    parts = found["components"]

    def fits(name: str, value: Any) -> None:
        validator.validate({"$ref": f"#/components/schemas/{name}", "components": parts}, value)

    fits("Models", live.client.get("/models").json())
    files = [("f", ("a", encoded())), ("f", ("b", b"x"))]
    fits("Answers", live.client.post("/predict", files=files).json())
    fits("Error", live.client.get("/nothing").json())
    request = {"inputs": [{"name": "pixels", "datatype": "UINT8", "shape": [1, 8, 8, 3], "data": [0] * 192}]}
    fits("Request", request)
    fits("Response", live.client.post("/v2/models/colours/infer", json=request).json())
    with pytest.raises(validator.ValidationError):
        fits("Request", {"inputs": []})


def examine(live: Live, examples: int) -> int:
    """Requests that schemathesis makes of the document, valid and not. Returns how many; fails at a 5xx, at a status
    or a type that the document does not name, and at an answer that does not fit its schema.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import schemathesis
        from hypothesis import HealthCheck, Phase, given, settings
        from schemathesis.checks import not_a_server_error
        from schemathesis.specs.openapi.checks import (
            content_type_conformance,
            response_schema_conformance,
            status_code_conformance,
        )

        schema = schemathesis.openapi.from_url(f"{live.url}/openapi.json")
        count = 0
        checks = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
        for found in schema.get_all_operations():
            operation = found.ok()
            for mode in schemathesis.GenerationMode:

                @given(case=operation.as_strategy(generation_mode=mode))
                @settings(
                    max_examples=examples,
                    deadline=None,
                    database=None,
                    derandomize=True,
                    phases=[Phase.generate],
                    suppress_health_check=list(HealthCheck),
                )
                def ask(case: Any) -> None:
                    nonlocal count
                    count += 1
                    if case.path_parameters and "name" in case.path_parameters and count % 2:
                        case.path_parameters["name"] = "colours"
                    case.call_and_validate(checks=checks, timeout=20)

                try:
                    ask()
                except Exception as error:
                    if "Unsatisfiable" not in type(error).__name__:  # nothing wrong can be made of no parameters
                        raise
    return count


def test_schemathesis_finds_no_5xx(live: Live) -> None:
    assert examine(live, 3) >= 40


@pytest.mark.soak
def test_schemathesis_finds_no_5xx_in_many(live: Live) -> None:
    count = examine(live, 200)
    print(f"\nschemathesis: {count} requests")
    assert count > 1000
