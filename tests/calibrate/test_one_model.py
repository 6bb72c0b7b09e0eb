"""Which model made rows: it travels with them, and rows and points of different models are refused together."""

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibrate import FeatureCache, feature_cache, fit, read_cache, write_cache
from calibrate.errors import OtherModel
from calibrate.extraction.extract import extract
from calibrate.fit import fit as fit_point
from calibrate.heads import retrain_head
from calibrate.io.parquet import open_cache
from calibrate.origin import Origin, doubt_of, of_file, origin_of, origin_of_saved, same_model
from calibrate.streaming import fit_stream
from tests.models import WIDTH, network
from tests.service.test_cli import setpoint

RNG = np.random.default_rng(5)
X, Y = RNG.normal(size=(300, WIDTH)).astype(np.float32), RNG.integers(0, 2, 300)
TORCH = Origin("torch", "ab" * 32, "cd" * 32, 300)


def rows_of(folder: Path, seed: int, name: str, at: slice) -> Path:
    """Rows of a network of that seed, extracted into a file."""
    model = folder / f"{seed}.onnx"
    model.write_bytes(network(2, seed=seed))
    extract(model, X[at], labels=Y[at], classes=["clear", "fraud"], out=folder / name, progress=False)
    return folder / name


@pytest.mark.parametrize("suffix", [".npz", ".parquet", ".arrow"])
def test_the_models_file_digest_travels_from_extraction_to_the_saved_point(suffix: str, tmp_path: Path) -> None:
    """It is what `sha256sum` prints; a cache that is written again keeps it, and `digest` does not depend on it."""
    path = rows_of(tmp_path, 0, f"rows{suffix}", slice(0, 200))
    expected = hashlib.sha256(network(2)).hexdigest()
    cache = read_cache(path)
    assert cache.origin is not None
    assert (cache.origin.model, cache.origin.file_digest) == ("onnx", expected)
    assert cache.digest == replace(cache, origin=None).digest
    write_cache(tmp_path / f"again{suffix}", cache)
    assert read_cache(tmp_path / f"again{suffix}").origin == cache.origin
    assert read_cache(path.read_bytes()).origin == cache.origin
    result = fit(cache, metric="f1")
    result.save(tmp_path / "p.json")
    saved = json.loads((tmp_path / "p.json").read_text())
    assert (saved["model_digest"], origin_of_saved(saved)) == (expected, cache.origin)
    if suffix != ".npz":
        assert fit_stream(open_cache(path), metric="f1").origin == cache.origin


def test_rows_in_memory_know_their_model_too() -> None:
    """Also those of a module, whose digest is of its weights."""
    cache = extract(network(2), X, labels=Y, progress=False)
    assert isinstance(cache, FeatureCache)
    assert cache.origin is not None
    assert cache.origin.file_digest == hashlib.sha256(network(2)).hexdigest()


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (of_file("aa"), of_file("aa"), True),
        (of_file("aa"), of_file("bb"), False),
        (TORCH, TORCH, True),
        (TORCH, replace(TORCH, model_digest="ef" * 32), False),
        (TORCH, replace(TORCH, data_digest="ef" * 32), True),
        (TORCH, of_file("aa"), None),
        (TORCH, None, None),
        (None, None, None),
        (replace(TORCH, model="scores"), replace(TORCH, model="scores"), None),
        (replace(TORCH, model="function", model_digest=""), replace(TORCH, model="function", model_digest=""), None),
        (replace(TORCH, model="scikit-learn"), replace(TORCH, model="scikit-learn"), True),
        (replace(TORCH, model="scikit-learn"), replace(TORCH, model="scikit-learn", model_digest="ef"), None),
    ],
)
def test_what_is_one_model(one: Origin | None, other: Origin | None, expected: bool | None) -> None:
    """Both ways round; a pickled scikit-learn model has another digest, so there a difference says nothing."""
    assert same_model(one, other) is same_model(other, one) is expected
    if expected is False:
        with pytest.raises(OtherModel, match="p and q are of different models"):
            doubt_of(one, other, ("p", "q"))
    else:
        assert (doubt_of(one, other, ("p", "q")) is None) == bool(expected)


def test_what_is_no_origin_says_nothing() -> None:
    """Wrong types, missing and unknown fields; a saved value of an older release has a digest or nothing."""
    good = asdict(TORCH)
    assert origin_of(good) == TORCH
    broken: object
    for broken in (None, [], {}, {**good, "rows": "5"}, {**good, "model": 3}, {**good, "head": 1}, {**good, "x": 1}):
        assert origin_of(broken) is None
    assert origin_of_saved({"model_digest": "aa"}) == of_file("aa")
    assert origin_of_saved({"model_digest": None, "origin": good}) == TORCH
    assert origin_of_saved({}) is None


def test_fit_refuses_rows_of_another_model(tmp_path: Path) -> None:
    """As training rows and as evidence; unknown ones are warned of, and equal heads are one model."""
    ours = read_cache(rows_of(tmp_path, 0, "ours.npz", slice(0, 200)))
    more = read_cache(rows_of(tmp_path, 0, "more.npz", slice(200, 300)))
    theirs = read_cache(rows_of(tmp_path, 1, "theirs.npz", slice(200, 300)))
    for given in ({"train": theirs}, {"evidence": theirs}):
        with pytest.raises(OtherModel, match=rf"^{next(iter(given))} and the fitting rows are of different models"):
            fit_point(ours, metric="f1", **given)  # type: ignore[arg-type]
    with pytest.raises(OtherModel, match="their heads, weight and bias, differ"):
        fit(ours, metric="f1", evidence=replace(theirs, origin=None))
    bare = replace(theirs, origin=None, weight=None, bias=None)
    with pytest.raises(OtherModel, match="features have 5 and 6 columns"):
        fit(ours, metric="f1", evidence=replace(bare, features=bare.features[:, :5]))  # type: ignore[index]
    assert not [text for text in fit(ours, metric="f1", evidence=more).warnings if "unknown" in text]
    assert not [
        text for text in fit(ours, metric="f1", evidence=replace(more, origin=None)).warnings if "unknown" in text
    ]
    warned = fit(ours, metric="f1", evidence=bare).warnings
    assert [text for text in warned if text.startswith("it is unknown whether one model made evidence (unknown) and")]
    arrays: dict[str, Any] = {"labels": Y[:100], "classes": ["clear", "fraud"]}
    plain = [feature_cache(logits=RNG.normal(size=(100, 2)), **arrays) for _ in range(2)]
    assert not [text for text in fit(plain[0], metric="f1", evidence=plain[1]).warnings if "unknown" in text]


def test_retrained_rows_are_of_no_known_model(tmp_path: Path) -> None:
    """The head is another one; validation rows of another model are refused."""
    ours = read_cache(rows_of(tmp_path, 0, "ours.npz", slice(0, 200)))
    theirs = read_cache(rows_of(tmp_path, 1, "theirs.npz", slice(200, 300)))
    head = retrain_head(ours, method="nearest_class_mean")
    assert head.cache_of(ours).origin is None
    with pytest.raises(OtherModel, match="validation and the training rows"):
        retrain_head(ours, method="nearest_class_mean", validation=theirs)


def test_streamed_files_of_two_models_are_refused(tmp_path: Path) -> None:
    """With the names of both files."""
    rows_of(tmp_path, 0, "a.parquet", slice(0, 200))
    rows_of(tmp_path, 1, "b.parquet", slice(200, 300))
    with pytest.raises(OtherModel, match=r"b\.parquet and .*a\.parquet are of different models"):
        open_cache(str(tmp_path / "*.parquet"))


def test_commands_refuse_points_of_another_model(tmp_path: Path) -> None:
    """`evaluate`, `export` and `retrain`, with both digests; what is unknown is a line on the standard error."""
    ours = rows_of(tmp_path, 0, "ours.npz", slice(0, 200))
    more = rows_of(tmp_path, 0, "more.npz", slice(200, 300))
    theirs = rows_of(tmp_path, 1, "theirs.npz", slice(200, 300))
    point = tmp_path / "p.json"
    fit(read_cache(ours), metric="f1").save(point)
    digests = [hashlib.sha256(network(2, seed=seed)).hexdigest() for seed in (0, 1)]

    assert setpoint("evaluate", more, "--point", point, "--json").stderr == ""
    refused = setpoint("evaluate", theirs, "--point", point, code=1).stderr
    assert all(digest in refused for digest in digests)
    allowed = setpoint("evaluate", theirs, "--point", point, "--json", "--allow-other-model")
    assert "are of different models" in allowed.stderr
    assert json.loads(allowed.stdout).keys() >= {"plain model", "p"}
    write_cache(tmp_path / "bare.npz", replace(read_cache(more), origin=None))
    assert "it is unknown whether one model made" in setpoint(
        "evaluate", tmp_path / "bare.npz", "--point", point, "--json"
    ).stderr  # fmt: skip

    out = tmp_path / "out.onnx"
    assert "different models" in setpoint("export", tmp_path / "1.onnx", "--point", point, "--out", out, code=1).stderr
    assert not out.exists()
    assert setpoint("export", tmp_path / "0.onnx", "--point", point, "--out", out).stderr == ""

    retrain = ("retrain", ours, "--method", "nearest_class_mean", "--validation", more, "--out", out)
    assert "different models" in setpoint(*retrain, "--model", tmp_path / "1.onnx", code=1).stderr
    new = tmp_path / "new.npz"
    setpoint(*retrain, "--model", tmp_path / "0.onnx", "--out-cache", new, "--json")
    made = read_cache(new).origin
    assert made is not None
    assert made.file_digest == hashlib.sha256(out.read_bytes()).hexdigest()
