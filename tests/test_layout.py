"""Imports point one way: each part may import only what its arrow allows."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Each part, the parts of its own package that it may import (directly or through others), in the order of the arrows.
CORE = [
    "errors", "names", "labels", "origin", "logits", "operating_point", "score_columns", "counts", "draws",
    "expression", "metrics", "aliases", "bands", "uncertainty", "certify", "naming", "objective", "purpose",
    "cautions", "promises", "sweep", "ascent", "folds", "sorted_folds", "ranking", "state", "maps", "map_choice",
    "methods", "budget",
]  # fmt: skip
# What stands on them: each may import the core, the cache, and those before it.
BEYOND = [
    "one_model", "paired", "optimism", "evidence", "prevalence", "scores", "samples", "kept_bounds",
    "reliability", "curve", "stored_curve",
    "report", "fitted_rows", "result", "fit", "streaming", "tables", "bench", "heads", "training",
]  # fmt: skip
ALLOWED = {
    **{f"calibrate.{name}": {f"calibrate.{before}" for before in CORE[:i]} for i, name in enumerate(CORE)},
    **{
        f"calibrate.{name}": {f"calibrate.{before}" for before in [*CORE, "cache", *BEYOND[:i]]}
        for i, name in enumerate(BEYOND)
    },
    "calibrate.cache": {
        f"calibrate.{name}"
        for name in ["errors", "names", "labels", "origin", "logits", "operating_point", "score_columns", "counts"]
    },
    "calibrate.io": {
        f"calibrate.{name}" for name in ["errors", "names", "labels", "origin", "logits", "operating_point", "cache"]
    },
    "calibrate.extraction": {
        f"calibrate.{name}"
        for name in ["errors", "names", "labels", "origin", "logits", "operating_point", "cache", "io"]
    },
    "calibrate.cli_extract": {
        f"calibrate.{name}" for name in ["cache", "cli", "cli_out", "errors", "extraction", "io"]
    },
    "calibrate.cli_export": {f"calibrate.{name}" for name in ["cli_models", "cli_out", "errors", "io", "origin"]},
    "calibrate.cli_models": {"calibrate.errors", "calibrate.origin"},
    "calibrate.cli_out": {"calibrate.errors"},
    "calibrate.cli_rows": {"calibrate.cache", "calibrate.errors", "calibrate.io"},
}
ALLOWED["calibrate.bench"] |= {"calibrate.cli_out", "calibrate.io"}
ALLOWED["calibrate.heads"] |= {"calibrate.io"}
BEHIND_HTTP = {
    f"service.{name}"
    for name in (
        "domain",
        "errors",
        "facts",
        "job",
        "evidence",
        "ports",
        "points",
        "registry",
        "inference",
        "identity",
        "calibration",
        "evaluation",
        "jobs",
        "shadows",
    )
}
ALLOWED |= {
    "service.errors": set(),
    "service.domain": {"service.errors"},
    "service.settings": set(),
    "service.client": set(),
    "service.terminal": set(),
    "service.cli_jobs": {"service.client", "service.cli_points", "service.terminal"},
    "service.connections": set(),
    "service.in_place": {"service.connections"},
    "service.keys": {"service.domain", "service.errors"},
    "service.facts": {"service.errors"},
    "service.job": set(),
    "service.ports": {"service.domain", "service.errors", "service.job", "service.keys"},
    "service.auth": {"service.domain", "service.errors", "service.keys", "service.ports"},
    "service.watcher": set(),
    "service.evidence": {"service.domain", "service.errors"},
    "service.points": {f"service.{name}" for name in ("domain", "errors", "evidence", "keys", "ports")},
    "service.loaded": {"service.domain", "service.errors", "service.ports"},
    "service.registry": {f"service.{name}" for name in ("domain", "errors", "job", "loaded", "points", "ports")},
    "service.inference": {"service.domain", "service.errors", "service.ports", "service.registry"},
    "service.shadows": {"service.domain", "service.errors", "service.ports", "service.inference"},
    "service.identity": {"service.domain"},
    "service.calibration": {f"service.{name}" for name in ("domain", "errors", "identity", "ports", "inference")},
    "service.evaluation": {f"service.{name}" for name in ("domain", "identity", "calibration", "ports")},
    "service.jobs": {f"service.{name}" for name in ("domain", "errors", "facts", "job", "points", "ports", "registry")},
    "service.engine": {"service.domain", "service.errors", "service.facts", "service.job", "service.ports"},
    "service.storage": {f"service.{name}" for name in ("domain", "errors", "job", "keys", "ports")},
    "service.decisions": {"service.domain", "service.errors", "service.ports", "service.inference"},
    "service.lifecycle": {"service.domain", "service.errors", "service.registry"},
    "service.monitoring": {"service.domain", "service.errors", "service.ports", "service.registry"},
    "service.web": BEHIND_HTTP
    | {f"service.{name}" for name in ("auth", "decisions", "keys", "settings", "lifecycle", "monitoring")},
    "service.server": {
        "service.settings",
        "service.connections",
        "service.in_place",
        "service.lifecycle",
        "service.web",
    },
    "service.cli": {
        f"service.{name}"
        for name in (
            *("settings", "client", "main", "monitoring", "server", "terminal"),
            *("cli_decisions", "cli_evaluate", "cli_jobs", "cli_keys", "cli_points", "cli_state"),
        )
    },
    "service.cli_evaluate": {"service.client", "service.cli_points", "service.terminal"},
    "service.cli_decisions": {f"service.{name}" for name in ("domain", "errors", "settings", "storage", "main")},
    "service.cli_keys": {
        f"service.{name}" for name in ("domain", "errors", "keys", "ports", "settings", "storage", "main")
    },
    "service.cli_points": {"service.client", "service.terminal"},
    "service.cli_state": {"service.settings", "service.ports", "service.storage"},
    "service.demo": {"service.client"},
}
ANYTHING = {"calibrate", "calibrate.cli", "calibrate.cli_retrain", "service", "service.__main__", "service.main"}
# Where parts are put together: of the server, and of the process that calibrates.
ANYTHING |= {"service.calibrating", "service.worker"}
HEAVY = {"torch", "onnx", "onnxruntime", "sklearn", "matplotlib", "pyarrow", "sqlalchemy", "fastapi", "starlette"}
MAY_IMPORT = {
    "calibrate.io": {"onnx", "onnxruntime", "pyarrow"},
    "calibrate.report": {"matplotlib"},
    "calibrate.heads": {"torch"},
    "calibrate.bench": {"matplotlib"},
    "calibrate.extraction": {"torch", "onnxruntime", "sklearn", "pyarrow"},
    "service.engine": {"onnxruntime"},
    "service.monitoring": {"onnxruntime"},
    "service.storage": {"sqlalchemy"},
    "service.web": {"fastapi", "starlette"},
    "service.main": {"fastapi"},
    "service.demo": {"torch", "onnx", "matplotlib"},
}


def part(module: str) -> str:
    """The part of a package that a module belongs to."""
    return ".".join(module.split(".")[:2])


def modules(package: str) -> list[tuple[str, ast.Module]]:
    """Every module of a package with its syntax tree."""
    found = []
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found.append((name, ast.parse(path.read_text())))
    return found


def imports(tree: ast.Module) -> set[str]:
    """The modules that a tree imports, inside functions too."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names if "." not in node.module}
    return found


MODULES = [pytest.param(name, tree, id=name) for name, tree in modules("calibrate") + modules("service")]


@pytest.mark.parametrize(("name", "tree"), MODULES)
def test_the_arrows_hold(name: str, tree: ast.Module) -> None:
    """A part imports only the parts that its arrow allows; the library never the service."""
    ours = {part(imported) for imported in imports(tree) if imported.startswith(("calibrate.", "service."))}
    ours = {
        found
        for found in ours
        if (ROOT / found.replace(".", "/")).is_dir() or (ROOT / f"{found.replace('.', '/')}.py").exists()
    }
    if name.startswith("calibrate"):
        assert not {found for found in ours if found.startswith("service")}
    if part(name) not in ANYTHING:
        beyond = {found for found in ours if found.startswith(name.split(".")[0])} - ALLOWED[part(name)] - {part(name)}
        assert not beyond, f"{name} imports {beyond}"


@pytest.mark.parametrize(("name", "tree"), MODULES)
def test_what_is_heavy_is_imported_in_its_place_only(name: str, tree: ast.Module) -> None:
    """Torch, ONNX, SQL and HTTP each stay behind their own wall."""
    heavy = {imported.split(".")[0] for imported in imports(tree)} & HEAVY
    assert heavy <= MAY_IMPORT.get(part(name), set()), f"{name} imports {heavy}"
