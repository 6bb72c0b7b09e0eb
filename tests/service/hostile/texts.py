"""Hostile JSON, names, addresses and expressions."""

import json
import pickle
from collections.abc import Iterator
from typing import Any

from tests.service.hostile import Attack

POINTS = "/models/fraud/operating-points"
JSON_ROUTES = (
    ("POST", "/predict"), ("POST", "/calibrate"), ("POST", POINTS), ("PUT", "/models/fraud/default"),
)  # fmt: skip
ROW = [0.0, 0.0, 0.0, 0.0]
TRAVERSAL = (
    "..", ".", "../x", "../../etc/passwd", "/etc/passwd", "a/b", "a\\b", "..\\x", "%2e%2e", "%2e%2e%2f", "..%2fx",
    "..;/x",
    "....//x", "a..b", ".a", "-a", "a\0b", "a\nb", "a\r\nX: y", "a b", " ", "", "é", "ａ", "\u202ea",
    "a" * 65, "a" * 10**6,
    "file:///etc/passwd", "http://x", "x#y", "x?y", "x@1", "~", "$HOME", "`id`", "a;b", "*", "{model}", "a'--",
    "\ufeffa",
)  # fmt: skip
EXPRESSIONS = (
    "__import__('os').system('id')", "tp.__class__", "().__class__.__bases__[0]", "eval('1')", "exec('1')",
    "open('/etc/passwd').read()", "lambda: tp", "(lambda: tp)()", "[tp for tp in (1,)]", "{tp}", "{'a': tp}", "f'{tp}'",
    "tp if tp else fn", "tp and fp", "not tp", "tp == 1", "tp < 1 < fp", "(a := 1)", "tp; fp", "tp = 1", "print(tp)",
    "getattr(tp, 'x')", "tp[0]", "tp.real", "*tp", "tp @ fp", "~tp", "tp << 10**9", "tp | fp", "await tp", "yield tp",
    "9**9**9**9", "10**10**10", "tp**tp**tp", "2**10**6", "-" * 100_000 + "tp", "(" * 1000 + "tp" + ")" * 1000,
    "tp+" * 100_000 + "tp", "0" * 10**6, "1e999", "1j*tp", "'tp'", "b'tp'", "None", "True", "...", "", " ", "\n",
    "tp\0",
    "τp", "recall[nobody]", "recall[", "precision(", "fbeta()", "fbeta(-1)", "fbeta('x')", "fbeta(1e999)",
    "fbeta(1, 2)",
    "cost(fp=1e999, fn=1)", "cost(x=1)", "cost()", "unknown", "import os", "# tp", "del tp",
    "raise tp",
    "\ud7ff", "tp" * 10**6,
)  # fmt: skip
CONSTRAINTS = (
    "", "recall", "recall >=", ">= 0.9", "recall >> 0.9", "recall >= x", "recall >= nan", "recall >= inf",
    "recall >= 1e999",
    "recall >= __import__('os')", "recall >= 0.9 @", "recall >= 0.9 @ 0%", "recall >= 0.9 @ 100%",
    "recall >= 0.9 @ -5%",
    "recall >= 0.9 @ 1000%", "recall >= 0.9 @ x", "recall >= 0.9 @ 95% @ 95%", "recall >= 0.9 >= 0.8", "evil >= 0.9",
    "9**9**9**9 >= 1", "recall >= 0.9;", "recall = 0.9", "recall >= 0x10", "x" * 10**6,
)  # fmt: skip


def documents() -> dict[str, bytes]:
    """Bodies that are no JSON object, or none that anybody should read to its end."""
    nested = {f"nested {depth} {kind}": pair[0] * depth + pair[1] * depth for depth in (1100, 10**6) for kind, pair in (
        ("lists", (b"[", b"]")), ("objects", (b'{"a":', b"}")), ("open lists", (b"[", b"")), ("mixed", (b'[{"a":',
        b"}]")),
    )}  # fmt: skip
    return {
        "nothing": b"", "null": b"null", "a list": b"[]", "a number": b"1", "a text": b'"x"', "true": b"true",
        "half an object": b"{", "half a text": b'{"model": "fr', "a comma too many": b'{"model": "fraud",}',
        "two documents": b"{}{}", "a tail": b"{}x", "a mark": b"\xef\xbb\xbf{}", "utf-16": "{}".encode("utf-16"),
        "utf-32": "{}".encode("utf-32"), "bad utf-8": b'{"model": "\xff\xfe"}',
        "overlong utf-8": b'{"model": "\xc0\xaf"}',
        "half a pair": b'{"model": "\\ud800"}', "a null byte": b'{"model": "fraud\0"}', "bare NaN": b'{"model": NaN}',
        "bare Infinity": b'{"model": -Infinity}', "single quotes": b"{'model': 'fraud'}", "a comment": b"{/* */}",
        "a large number": b'{"model": 1' + b"0" * 10**5 + b"}", "a large exponent": b'{"model": 1e999999}',
        "a control character": b'{"model": "a\tb\x01"}', "a name twice, unlike": b'{"model": 1, "model": []}',
        "a pickle": pickle.dumps({"model": "fraud"}), "a pickle that runs": b"cos\nsystem\n(S'true'\ntR.",
        "zeros": bytes(10**6), "a million brackets": b"[]" * 10**6, "xml": b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
        "yaml": b"!!python/object/apply:os.system ['true']", "msgpack": b"\x81\xa5model\xa5fraud", **nested,
    }  # fmt: skip


def predictions() -> Iterator[tuple[str, Any]]:
    """Bodies of `POST /predict` with one thing wrong."""
    good: dict[str, Any] = {"model": "fraud", "inputs": [ROW]}
    wrong: dict[str, list[Any]] = {
        "model": [None, 1, True, [], {}, "", "FRAUD", "fraud ", "fraud/", *TRAVERSAL],
        "model_version": ["1", 1.5, True, -1, 0, 2**31, 2**63, -(2**63), [], {}, 1e300],
        "inputs": [
            None, 1, "x", True, {}, [], [[]], [[1]], [[1, 2, 3]], [[1] * 5], [ROW, [1]], [ROW, 1], [[ROW]], [[[[ROW]]]],
            [["1"] * 4], [[{}] * 4], [[[]] * 4], [[1e39] * 4], [[1, 2, 3, "x"]], {"y": [ROW]}, {"x": [ROW], "y": [ROW]},
            {"x": None}, {"x": {"x": [ROW]}}, [None], [[0.0] * 10**6], ["x" * 10**6], [["x" * 10**6, 1, 1, 1]],
        ],
        "operating_point": [
            1, True, [], {}, [1], [None], ["argmax"] * 2, ["argmax", "nope"], [["argmax"]], "nope", "argmax@",
            "argmax@0",
            "argmax@-1", "argmax@2", "argmax@1.0", "argmax@99999999999999999999", "@", "@1", "argmax@1@1",
            "x" * 10**6, "../x",
        ],
        "compare": ["argmax", 1, {}, [1], [None], ["nope"], [["argmax"]], {"argmax": 1}],
        "features": [[[1]], None, "x"], "logits": [[[1, 2]], [[1]]], "unknown": [1], "__proto__": [{}],
        "request_id": ["x"],
    }  # fmt: skip
    for field, values in wrong.items():
        for i, value in enumerate(values):
            if (field, value) not in (("features", None),):
                yield f"{field} {i}", {**good, field: value}
    for name in ("features", "logits"):
        for i, value in enumerate(
            ([[None, 1.0]], [["1", "2"]], [[]], [], [[1.0, 2.0], [1.0]], [[[1.0, 2.0]]], 5, "x", {})
        ):
            yield f"{name} alone {i}", {"model": "fraud", name: value}
    yield "nothing to decide", {"model": "fraud"}


def points() -> Iterator[tuple[str, Any]]:
    """Bodies that publish a point with one thing wrong."""
    point = {"classes": ["clear", "fraud"], "scale": [1, 1], "bias": [0, 0]}
    wrong: dict[str, list[Any]] = {
        "classes": [None, "clear", [], ["clear"], ["fraud", "clear"], ["clear", "clear"], ["clear", "fraud", "x"],
        [1, 2]],
        "scale": [None, 1, [], [1], [1, 0], [1, -1], [1, None], [1, "1"], [1, 1, 1], [[1, 1]], ["x" * 10**5, 1]],
        "bias": [None, 0, [0], [0, None], [0, 0, 0], [0, {}], {"clear": 0}],
        "weight": [[1], [1, -1], [1, None], "x"], "offset": [[0, 0], "x"], "cost": [[[0, 1]], [[0, None], [1, 0]],
        "x", []],
        "unknown": [1],
    }  # fmt: skip
    for field, values in wrong.items():
        for i, value in enumerate(values):
            yield f"{field} {i}", {"name": "p", "point": {**point, field: value}}
    names: tuple[Any, ...] = (*TRAVERSAL, "argmax", 1, None, [])
    for i, name in enumerate(names):
        yield f"name {i}", {"name": name, "point": point}
    for i, details in enumerate((1, "x", [], {"evidence": 1}, {"x": "y" * 10**5}, {"calibration": {"scale": [0]}})):
        yield f"details {i}", {"name": "p", "point": point, "details": details}
    for i, number in enumerate(("1", 1.5, 2, -1, 2**70)):
        yield f"version {i}", {"name": "p", "point": point, "model_version": number}


def defaults() -> Iterator[tuple[str, Any]]:
    """Bodies that move the default with one thing wrong."""
    good = {"model_version": 1, "operating_point": "argmax", "reason": "a test"}
    wrong: dict[str, list[Any]] = {
        "model_version": ["1", 1.5, 0, -1, 2, 2**70, []],
        "operating_point": [None, 1, [], "nope", "argmax@2", "../x", "x" * 10**5],
        "reason": [None, 1, "", "  ", "x" * 1001, []],
    }
    for field, values in wrong.items():
        for i, value in enumerate(values):
            yield f"{field} {i}", {**good, field: value}


def calibrations() -> Iterator[tuple[str, Any]]:
    """Bodies of `POST /calibrate` with one thing wrong."""
    data = {"labels": [0, 1] * 10, "logits": [[0.0, 0.1 * i] for i in range(20)]}
    good: dict[str, Any] = {"model": "fraud", "name": "p", "metric": "f1", "data": data}
    for i, text in enumerate(EXPRESSIONS):
        yield f"metric {i}", {**good, "metric": text}
    for i, text in enumerate(CONSTRAINTS):
        yield f"constraint {i}", {**good, "constraints": [text]}
    for i, name in enumerate((*TRAVERSAL, "argmax")):
        yield f"name {i}", {**good, "name": name}
    wrong: dict[str, list[Any]] = {
        "labels": [None, [], [0], [2] * 20, [-1] * 20, [0.5] * 20, ["x"] * 20, [0, "fraud"] * 10, [None] * 20, "x",
        [[0]] * 20],
        "logits": [None, [], [[0, 1]], [[0, None]] * 20, [["0", 1]] * 20, [[0, 1, 2]] * 20, "x", 1],
        "sample_weight": [[1], [-1.0] * 20, [None] * 20, "x", [0.0] * 20], "group": [[1]], "classes": ["x", [1], ["x"]],
        "unknown": [1],
    }  # fmt: skip
    for field, values in wrong.items():
        for i, value in enumerate(values):
            yield f"{field} {i}", {**good, "data": {**data, field: value}}
    options: dict[str, list[Any]] = {
        "method": ["", "magic", "__class__", 1], "search": ["", "magic", 1], "positive": ["nobody", 7, -3],
        "prior": [[1], [0, 1], [0.5, 0.6], ["x", 1], [-1, 2]], "data": [None, 1, [], "x", {}],
        "constraints": ["recall", 1],
        "unknown": [1], "model": ["nope", None], "make_default": ["yes", 2],
    }  # fmt: skip
    for field, values in options.items():
        for i, value in enumerate(values):
            yield f"option {field} {i}", {**good, field: value}


def addresses() -> Iterator[tuple[str, str]]:
    """Addresses that lead elsewhere, or nowhere."""
    for name in (
        "..%2f..%2fetc%2fpasswd", "%2e%2e%2f%2e%2e%2fsetpoint.db", "..%5c..%5cx", "%00", "fraud%00", "fraud%2f",
        "fraud%0a",
        "%c0%ae%c0%ae", "%252e%252e", "fraud;x", "a" * 5000, "%ff%fe", "fraud%20", "FRAUD", "*", "{model}",
    ):  # fmt: skip
        yield f"/models/{name}", "GET"
        yield f"/console/{name}", "GET"
        yield f"/static-offline-docs/{name}", "GET"
        yield f"/models/fraud/operating-points/{name}", "GET"
    for path in (
        "/.git/config",
        "/.env",
        "/etc/passwd",
        "/setpoint-data/setpoint.db",
        "/console/../app.py",
        "/openapi.yaml",
    ):
        yield path, "GET"
    for query in (
        "limit=0",
        "limit=1001",
        "limit=-1",
        "limit=x",
        "limit=1e9",
        "limit=99999999999999999999",
        "limit=%00",
    ):
        yield f"/audit?{query}", "GET"
        yield f"/decisions?request_id=x&{query}", "GET"
    for query in (
        "model_version=x",
        "model_version=2",
        "model_version=-1",
        "model_version=1.5",
        "model_version=" + "9" * 50,
    ):
        yield f"{POINTS}?{query}", "GET"
    for verb in ("DELETE", "PATCH", "OPTIONS", "HEAD", "PROPFIND"):
        yield "/predict", verb


def texts() -> Iterator[Attack]:
    """All of them."""
    for verb, path in JSON_ROUTES:
        for name, body in documents().items():
            yield Attack(f"{path}: {name}", verb, path, body, {"content-type": "application/json"})
    for path, kind, verb in (
        ("/predict", predictions, "POST"), (POINTS, points, "POST"), ("/models/fraud/default", defaults, "PUT"),
        ("/calibrate", calibrations, "POST"),
    ):  # fmt: skip
        for name, value in kind():
            yield Attack(f"{path}: {name}", verb, path, json.dumps(value).encode())
    for path, verb in addresses():
        yield Attack(f"{verb} {path[:80]}", verb, path)
