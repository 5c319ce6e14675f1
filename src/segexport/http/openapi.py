"""OpenAPI documents: what FastAPI makes of the routes, and what it cannot see in them."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from segexport.http.auth import API_KEY

JSON: Final = "application/json"
REQUEST_ID: Final[Mapping[str, Any]] = {
    "description": "The id of the request, in our log as well: the client's own, or one of ours.",
    "required": True,
    "schema": {"type": "string", "minLength": 1, "maxLength": 128},
}
TOKEN_AND_KEY: Final[Mapping[str, Mapping[str, Any]]] = {
    "token": {"type": "http", "scheme": "bearer", "description": "From `/ims/token/v3`."},
    "key": {"type": "apiKey", "in": "header", "name": API_KEY},
}
"""The schemes of whoever shows a bearer token and the key that it was issued to."""
_REFERENCE: Final = "#/components/schemas/{model}"
_NULL: Final = {"type": "null"}


def body(
    model: type[BaseModel], examples: Mapping[str, Any], *, media_type: str = JSON
) -> dict[str, Any]:
    """A required body that is held to `model` by other means than FastAPI's."""
    content = {
        "schema": {"$ref": _REFERENCE.format(model=model.__name__)},
        "examples": {name: {"value": value} for name, value in examples.items()},
    }
    return {"requestBody": {"required": True, "content": {media_type: content}}}


def answer(
    description: str,
    model: type[BaseModel],
    example: Any,
    *,
    media_type: str = JSON,
    **headers: str,
) -> dict[str, Any]:
    """One of the answers of an operation; `headers` by name, with what they say."""
    told = bare_answer(description, **headers)
    told["content"] = {media_type: {"example": example}}
    if media_type == JSON:
        told["model"] = model
    else:
        reference = {"$ref": _REFERENCE.format(model=model.__name__)}
        told["content"][media_type]["schema"] = reference
    return told


def parameter(
    name: str, where: str, words: str, *, required: bool = False, **schema: Any
) -> dict[str, Any]:
    """A parameter that FastAPI does not see; a text, of which `schema` says more."""
    return {
        "name": name,
        "in": where,
        "required": required,
        "description": words,
        "schema": {"type": "string", **schema},
    }


def linked(told: dict[str, Any], links: Mapping[str, Any]) -> dict[str, Any]:
    """An answer that says what can be done with what it holds."""
    return {**told, "links": dict(links)}


def bare_answer(description: str, **headers: str) -> dict[str, Any]:
    """An answer without a body."""
    told: dict[str, Any] = {"description": description}
    if headers:
        told["headers"] = {
            name.replace("_", "-"): {
                "description": words,
                "required": True,
                "schema": {"type": "string", "minLength": 1},
            }
            for name, words in headers.items()
        }
    return told


def describe(
    app: FastAPI,
    *,
    title: str,
    words: str,
    base: str = "/",
    models: tuple[type[BaseModel], ...],
    security: Mapping[str, Mapping[str, Any]],
    required: tuple[str, ...] = (),
) -> None:
    """Finish the document of `app`: where it is mounted, its bodies, who may ask.

    `models` are those of `body`, and of answers that are not plain JSON. `required` are the
    schemes of `security` that every operation needs, all of them. Validation errors of FastAPI's
    own are left out: every interface words them as its other errors.
    """

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(
                title=title,
                version=version("segexport"),
                description=words,
                routes=app.routes,
                servers=[{"url": base}],
            )
            _complete(made, models)
            made["components"]["securitySchemes"] = dict(security)
            if required:
                made["security"] = [{name: [] for name in required}]
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # how FastAPI wants it to be replaced


def _complete(made: dict[str, Any], models: tuple[type[BaseModel], ...]) -> None:
    schemas = made.setdefault("components", {}).setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for schema in schemas.values():
        _absent_and_not_null(schema)
    for model in models:
        # Answers may show the same parts, and never leave out what has a default.
        schema = model.model_json_schema(ref_template=_REFERENCE.format(model="{model}-Input"))
        schemas |= {f"{name}-Input": part for name, part in schema.pop("$defs", {}).items()}
        schemas[model.__name__] = schema
    for path in made["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
            for told in operation["responses"].values():
                told.setdefault("headers", {})["x-request-id"] = REQUEST_ID
            for parameter in operation.get("parameters", ()):
                parameter["schema"] = _without_null(parameter["schema"])


def _absent_and_not_null(schema: dict[str, Any]) -> None:
    """Say of an answer's model that what is not known is left out."""
    for name, part in schema.get("properties", {}).items():
        if name not in schema.get("required", ()):
            schema["properties"][name] = _without_null(part)


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    if _NULL not in schema.get("anyOf", ()):
        return schema
    others = [one for one in schema["anyOf"] if one != _NULL]
    notes = {key: part for key, part in schema.items() if key not in {"anyOf", "default"}}
    return notes | (others[0] if len(others) == 1 else {"anyOf": others})
