"""Caches: what goes in comes out, and what does not fit is named."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibrate import InputError, feature_cache, read_cache, write_cache
from calibrate.errors import (
    BadCache,
    BadPoint,
    BadPrior,
    MissingClass,
    NoRows,
    NotFinite,
    UnknownLabel,
    WrongShape,
)

RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(6, 3)).astype(np.float32)
WEIGHT = RNG.normal(size=(2, 3)).astype(np.float32)
BIAS = np.array([0.5, -0.5], dtype=np.float32)
GOOD = {"features": FEATURES, "weight": WEIGHT, "bias": BIAS, "labels": [0, 1, 0, 1, 0, 0], "prior": [0.7, 0.3]}


def npz(**arrays: object) -> bytes:
    """An .npz file of anything."""
    stream = io.BytesIO()
    np.savez(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


def test_logits_are_made_from_features_and_head() -> None:
    """In float64, the exact linear map of the float32 numbers."""
    cache = feature_cache(**GOOD)  # type: ignore[arg-type]
    expected = FEATURES.astype(float) @ WEIGHT.T.astype(float) + BIAS
    assert np.allclose(cache.logits, expected, rtol=1e-15)
    assert cache.classes == ("0", "1")


def test_one_logit_and_a_one_row_head_are_two_classes() -> None:
    """(n,) and (n, 1) logits, a (1, d) or (d,) head: columns (0, x) each time."""
    labels = [0, 1, 0, 1, 0, 0]
    x = FEATURES @ WEIGHT[1] + BIAS[1]
    for logits in (x, x[:, np.newaxis]):
        cache = feature_cache(logits=logits, labels=labels)
        assert np.array_equal(cache.logits, np.stack([x * 0, x], axis=1))
        assert cache.logits.dtype == np.float32
    for weight in (WEIGHT[1:], WEIGHT[1]):
        cache = feature_cache(features=FEATURES, weight=weight, bias=BIAS[1:], labels=labels)
        assert cache.weight is not None
        assert cache.weight.shape == (2, 3)
        assert np.allclose(cache.logits[:, 1], x, atol=1e-6)
        assert not cache.logits[:, 0].any()


def test_labels_are_names_or_indices() -> None:
    """Names in the order of `classes`; whole floats and booleans are indices."""
    logits = np.zeros((3, 2))
    by_name = feature_cache(logits=logits, labels=["ok", "bad", "ok"], classes=["ok", "bad"])
    assert by_name.labels.tolist() == [0, 1, 0]
    with pytest.raises(BadCache, match=r"labels are named \('bad', 'ok'\) and the 2 columns are not: pass classes="):
        feature_cache(logits=logits, labels=["ok", "bad", "ok"])
    for labels in ([0, 1, 0], [0.0, 1.0, 0.0], [False, True, False], np.array([0, 1, 0], dtype=np.uint8)):
        assert feature_cache(logits=logits, labels=labels).labels.tolist() == [0, 1, 0]


def test_a_file_gives_back_the_cache(tmp_path: Path) -> None:
    """Every array, its type and the names; the file is at the very path that was given."""
    cache = feature_cache(**{**GOOD, "classes": ["klar", "Betrug"]})  # type: ignore[arg-type]
    write_cache(tmp_path / "cache", cache)
    again = read_cache(tmp_path / "cache")
    for field in ("features", "logits", "labels", "weight", "bias", "prior"):
        ours, theirs = getattr(cache, field), getattr(again, field)
        assert np.array_equal(ours, theirs)
        assert ours.dtype == theirs.dtype
    assert again.classes == cache.classes
    assert again.digest == cache.digest
    with np.load(tmp_path / "cache") as plain:
        assert set(plain) == {"features", "logits", "labels", "classes", "weight", "bias", "prior"}


def test_what_anyone_writes_with_numpy_is_read() -> None:
    """Compressed, Fortran-ordered, big-endian, names as labels."""
    stream = io.BytesIO()
    np.savez_compressed(
        stream,
        logits=np.asfortranarray(FEATURES[:, :2].astype(">f4")),
        labels=np.array(["a", "b", "a", "b", "a", "b"]),
        classes=np.array(["a", "b"]),
    )
    cache = read_cache(stream.getvalue())
    assert np.array_equal(cache.logits, FEATURES[:, :2])
    assert cache.classes == ("a", "b")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"features": FEATURES * np.float32(np.nan)}, NotFinite, r"features\[0, 0\] must be finite, got nan"),
        ({"features": FEATURES[:0]}, NoRows, "features: wanted at least one row"),
        ({"features": FEATURES[:, :2]}, WrongShape, "features: wanted 3 columns, as weight has, got 2"),
        ({"features": FEATURES[0]}, WrongShape, "features: wanted 2 axes"),
        ({"features": None}, BadCache, "features or logits, it has neither"),
        ({"weight": None, "bias": None}, BadCache, "need the head's weight"),
        ({"weight": None}, BadCache, "bias of a head was given without its weight"),
        ({"weight": WEIGHT[:, :1]}, WrongShape, "wanted 1 columns"),
        ({"bias": BIAS[:1]}, WrongShape, "bias: wanted 2 entries"),
        ({"bias": [0.0, np.inf]}, NotFinite, r"bias\[1\] must be finite"),
        ({"labels": [0, 1]}, WrongShape, "labels: wanted 6, one per row, got 2"),
        ({"labels": []}, NoRows, "labels: wanted at least one"),
        ({"labels": [[0, 1, 0, 1, 0, 1]]}, WrongShape, "labels: wanted 1 axis"),
        ({"labels": [0, 1, 0, 1, 0, 2]}, UnknownLabel, r"labels\[5\] must be an index from 0 to 1, got 2"),
        ({"labels": [0, 1, -1, 1, 0, 1]}, UnknownLabel, r"labels\[2\] must be"),
        ({"labels": [0, 1, 0.5, 1, 0, 1]}, UnknownLabel, r"labels\[2\] must be"),
        ({"labels": [0, 1, np.nan, 1, 0, 1]}, UnknownLabel, r"labels\[2\] must be"),
        ({"labels": [0, "a", 0, 1, 0, 1]}, UnknownLabel, "all of one kind"),
        ({"labels": [None] * 6}, UnknownLabel, "all of one kind"),
        ({"labels": [[0], [0, 1], 0, 1, 0, 1]}, UnknownLabel, "names or indices"),
        ({"labels": ["a"] * 6}, MissingClass, "every label is 'a'"),
        ({"labels": ["a", "b", "c"] * 2}, BadCache, r"labels are named \('a', 'b', 'c'\) and the 2 columns are not"),
        ({"labels": ["x"] * 6, "classes": ["a", "b"]}, UnknownLabel, r"labels\[0\] must be one of a, b; got 'x'"),
        ({"classes": ["a", "b", "c"]}, WrongShape, "3 classes"),
        ({"classes": ["a", "a"]}, BadPoint, "more than once"),
        ({"prior": [1, 0]}, BadPrior, "prior of class '1' must be > 0, got 0"),
        ({"prior": [0.7, np.nan]}, NotFinite, r"prior\[1\]"),
        ({"logits": FEATURES[:, :2]}, BadCache, r"logits of row \d are .* but features, weight and bias give"),
        ({"logits": FEATURES[:5, :2]}, WrongShape, "features have 6 rows, logits 5"),
        ({"logits": FEATURES}, WrongShape, "weight is for 2 classes, logits have 3 columns"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(change: dict[str, object], error: type[InputError], message: str) -> None:
    """One fault at a time, in an otherwise good cache."""
    with pytest.raises(error, match=message):
        feature_cache(**{**GOOD, **change})  # type: ignore[arg-type]


def header(shape: str, descr: str = "<f4") -> bytes:
    """A .npy header that claims what it likes."""
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def zipped(**members: bytes) -> bytes:
    """A zip file of raw members."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return stream.getvalue()


WHOLE = npz(logits=FEATURES[:, :2], labels=[0, 1, 0, 1, 0, 0])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a whole .npz file"),
        (b"PK\x03\x04", "not a whole .npz file"),
        (WHOLE[: len(WHOLE) // 2], "not a whole .npz file"),
        (WHOLE.replace(b"NUMPY", b"NUMPX"), "not a whole .npz file"),
        (npz(labels=np.array([0, None]), logits=FEATURES), "key 'labels' is pickled"),
        (npz(logits=FEATURES), "the cache has no labels, only logits"),
        (npz(labels=[0], ids=[1]), "a cache has the keys .* got 'ids'"),
        (npz(labels=np.array([b"a"])), "'labels' must hold numbers or names"),
        (npz(labels=np.array([1j])), "'labels' must hold numbers or names"),
        (npz(labels=np.zeros(2, dtype=[("a", "<f4")])), "'labels' must hold numbers or names"),
        (zipped(**{"labels.npy": header("(10000000000,)")}), r"claims shape \(10000000000,\) of float32, but holds 0"),
        (zipped(**{"labels.npy": header("(-1, -8)") + b"\0" * 32}), "claims shape"),
        (zipped(**{"labels.npy": header("(10**9,)")}), "'labels' is not an array"),
        (zipped(**{"labels.npy": header("(5,)", "<U0")}), "'labels' must hold"),
        (zipped(**{"labels.npy": b"hello"}), "'labels' is not an array"),
        (zipped(**{"labels.npy": b""}), "'labels' is not an array"),
        (zipped(**{"labels": b"", "labels.npy": b""}), "more than once"),
    ],
)
def test_a_file_that_is_no_cache_is_refused(data: bytes, message: str) -> None:
    """Truncated, pickled, with false claims or unknown keys."""
    with pytest.raises(BadCache, match=message):
        read_cache(data)


def test_a_file_that_unpacks_to_too_much_is_refused_unread() -> None:
    """A kilobyte that would become a megabyte."""
    bomb = zipped(**{"labels.npy": header("(1000000,)", "|u1") + b"\0" * 10**6})
    assert len(bomb) < 2000
    with pytest.raises(BadCache, match=r"unpacks to 10000.. bytes, wanted at most 10000$"):
        read_cache(bomb, most_bytes=10_000)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """With its path."""
    with pytest.raises(BadCache, match=r"there is no file .*missing\.npz"):
        read_cache(tmp_path / "missing.npz")


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255), st.booleans())
def test_a_damaged_file_is_an_input_error_or_still_a_cache(at: int, change: int, cut: bool) -> None:
    """Any byte flipped, any end cut off: never another kind of exception."""
    damaged = bytearray(WHOLE)
    damaged[at] ^= change
    try:
        cache = read_cache(bytes(damaged[:at] if cut else damaged))
    except InputError:
        return
    assert cache.rows >= 1
