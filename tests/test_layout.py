"""Imports point one way: each part may import only what its arrow allows."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Each part, the parts of its own package that it may import (directly or through others), in the order of the arrows.
CORE = ["errors", "logits", "operating_point", "counts", "metrics", "search", "state", "methods"]
ALLOWED = {
    **{f"calibrate.{name}": {f"calibrate.{before}" for before in CORE[:i]} for i, name in enumerate(CORE)},
    "calibrate.cache": {"calibrate.errors", "calibrate.logits", "calibrate.operating_point"},
    "calibrate.uncertainty": {"calibrate.counts", "calibrate.metrics"},
    "calibrate.evidence": {f"calibrate.{name}" for name in [*CORE, "uncertainty"]},
    "calibrate.fit": {f"calibrate.{name}" for name in [*CORE, "cache", "uncertainty", "evidence"]},
    "calibrate.io": {"calibrate.errors", "calibrate.logits", "calibrate.operating_point", "calibrate.cache"},
}
HEAVY = {"torch", "onnx", "onnxruntime", "sklearn", "matplotlib", "pyarrow"}
MAY_IMPORT_HEAVY = {"calibrate.io", "calibrate.cli"}


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


def imports(tree: ast.Module, top_level: bool = False) -> set[str]:
    """The modules that a tree imports, anywhere or only at the top."""
    nodes = tree.body if top_level else ast.walk(tree)
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize(
    ("name", "tree"), modules("calibrate"), ids=lambda value: value if isinstance(value, str) else ""
)
def test_the_librarys_arrows_hold(name: str, tree: ast.Module) -> None:
    """A part imports only the parts before it, never the service, and no heavy package but where files are read."""
    for imported in imports(tree):
        assert not imported.startswith("service"), f"{name} imports {imported}"
        if imported.startswith("calibrate.") and name not in ("calibrate", "calibrate.cli"):
            assert part(imported) in ALLOWED[part(name)] | {part(name)}, f"{name} imports {imported}"
    if part(name) not in MAY_IMPORT_HEAVY:
        heavy = {imported.split(".")[0] for imported in imports(tree)} & HEAVY
        assert not heavy, f"{name} imports {heavy}"
