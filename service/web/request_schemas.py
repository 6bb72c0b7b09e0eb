"""Request schemas as generators of clients read them: a field that may be left out has no `default` keyword.

openapi-typescript, and others, take a field with a default for one that is always there, which is right of a reply and
makes a request list every option. The description states the default.
"""

import json
from collections.abc import Iterator
from typing import Any

_PREFIX = "#/components/schemas/"


def take_out_defaults(schemas: dict[str, Any], requests: set[str]) -> None:
    """Move the defaults of all fields of these request schemas, and of what they refer to, to their descriptions."""
    waiting, seen = sorted(requests), set(requests)
    while waiting:
        schema = schemas[waiting.pop()]
        for field in schema.get("properties", {}).values():
            _describe(field)
        for name in _referred(schema):
            if name not in seen:
                seen.add(name)
                waiting.append(name)


def _describe(field: dict[str, Any]) -> None:
    if "default" not in field:
        return
    default = field.pop("default")
    if default not in (None, "", [], {}) and not isinstance(default, dict):
        said = field.get("description", "")
        field["description"] = f"{said} Default: {json.dumps(default)}.".strip()


def _referred(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"].removeprefix(_PREFIX)
        for item in value.values():
            yield from _referred(item)
    elif isinstance(value, list):
        for item in value:
            yield from _referred(item)
