"""OpenAPI documents: what FastAPI makes of the routes, and what it cannot see in them."""

from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

_REFERENCE: Final = "#/components/schemas/{model}"


def json_body(model: type[BaseModel], examples: Mapping[str, Any]) -> dict[str, Any]:
    """A required JSON body that is held to `model` by other means than FastAPI's."""
    content = {
        "schema": {"$ref": _REFERENCE.format(model=model.__name__)},
        "examples": {name: {"value": value} for name, value in examples.items()},
    }
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


def answer(
    description: str, model: type[BaseModel], example: Any, **headers: str
) -> dict[str, Any]:
    """One of the answers of an operation; `headers` by name, with what they say."""
    told: dict[str, Any] = {
        "description": description,
        "model": model,
        "content": {"application/json": {"example": example}},
    }
    if headers:
        told["headers"] = {
            name.replace("_", "-"): {"description": words, "schema": {"type": "string"}}
            for name, words in headers.items()
        }
    return told


def problem(description: str, model: type[BaseModel], example: Any) -> dict[str, Any]:
    """An answer of the type of problem details (RFC 9457); its model goes to `bodies`."""
    content = {
        "schema": {"$ref": _REFERENCE.format(model=model.__name__)},
        "example": example,
    }
    return {"description": description, "content": {"application/problem+json": content}}


def describe(
    app: FastAPI,
    *,
    title: str,
    words: str,
    base: str,
    bodies: tuple[type[BaseModel], ...],
    security: Mapping[str, Mapping[str, Any]],
) -> None:
    """Finish the document of `app`: where it is mounted, its bodies, who may ask.

    `bodies` are the models of `json_body` and `problem`. Validation errors of FastAPI's own are
    left out: every interface words them as its other errors.
    """

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(
                title=title,
                version=_VERSION,
                description=words,
                routes=app.routes,
                servers=[{"url": base}],
            )
            _complete(made, bodies, security)
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # how FastAPI wants it to be replaced


_VERSION: Final = "1.0.0"


def _complete(
    made: dict[str, Any],
    bodies: tuple[type[BaseModel], ...],
    security: Mapping[str, Mapping[str, Any]],
) -> None:
    schemas = made.setdefault("components", {}).setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for model in bodies:
        schema = model.model_json_schema(ref_template=_REFERENCE)
        for name, part in {**schema.pop("$defs", {}), model.__name__: schema}.items():
            # Answers may show the same part; they never leave out what has a default.
            schemas.setdefault(name, part)
    made["components"]["securitySchemes"] = dict(security)
    made["security"] = [{name: [] for name in security}]
    for path in made["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
