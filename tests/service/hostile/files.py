"""Hostile uploads: archives, arrays, forms and models."""

import gzip
import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tests.models import network
from tests.service.hostile import Attack, form
from tests.service.hostile.texts import TRAVERSAL

SPEC = json.dumps({"model": "fraud", "name": "p", "metric": "f1"})
LABELS = np.array([0, 1] * 20)
LOGITS = np.random.default_rng(0).normal(size=(40, 2))


def npz(**arrays: np.ndarray[Any, Any]) -> bytes:
    """An archive of arrays, packed."""
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def archive(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """An archive of anything."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as made:
        for name, data in members.items():
            made.writestr(name, data)
    return file.getvalue()


def npy(header: str, data: bytes = b"", version: tuple[int, int] = (1, 0)) -> bytes:
    """An array with a header of one's own."""
    text = header.encode("latin-1", "replace") + b"\n"
    size = struct.pack("<H", len(text) & 0xFFFF) if version == (1, 0) else struct.pack("<I", len(text))
    return b"\x93NUMPY" + bytes(version) + size + text + data


def header(shape: str, kind: str = "<f8") -> str:
    """What a header says of an array."""
    return f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}"


def saved(array: np.ndarray[Any, Any]) -> bytes:
    """An array as it is written."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def changed(data: bytes, at: int, value: int) -> bytes:
    """With one byte changed."""
    return data[:at] + bytes([value]) + data[at + 1 :]


def overlapping(count: int) -> bytes:
    """Entries that all point at the same packed bytes."""
    plain = archive({"labels.npy": saved(np.zeros(10**6))})
    start = plain.index(b"PK\x01\x02")
    entry, end = plain[start : plain.index(b"PK\x05\x06")], plain[plain.index(b"PK\x05\x06") :]
    size = struct.pack("<HHI", count, count, len(entry) * count)
    return plain[:start] + entry * count + end[:8] + size + end[16:]


def archives() -> dict[str, Callable[[], bytes]]:
    """What may be sent as a feature cache, by what it tries."""
    good = npz(labels=LABELS, logits=LOGITS)
    label = saved(LABELS)
    deep = {f"a header of {name}": (lambda text=text: archive({"labels.npy": npy(text)})) for name, text in {
        "code": "{'descr': __import__('os').system('true'), 'fortran_order': False, 'shape': (1,)}",
        "brackets": "(" * 5000, "lists": "[" * 60_000, "nothing": "", "a number": "1", "no keys": "{}",
        "nulls": "\0" * 100,
        "10^10 rows": header("(10000000000,)"), "2^64 numbers": header("(4294967296, 4294967296)"),
        "2^63 rows": header("(9223372036854775808,)"), "10^5000 rows": header("(1" + "0" * 5000 + ",)"),
        "minus one row": header("(-1,)"), "half a row": header("(0.5,)"), "a text for a row": header("('x',)"),
        "100 axes": header("(" + "1," * 100 + ")"), "objects": header("(1,)", "|O"), "dates": header("(1,)", "<M8[s]"),
        "complex numbers": header("(1,)", "<c16"), "wide texts": header("(1,)", "<U1000000000"),
        "bytes": header("(1,)", "|S9"),
        "no type": header("(1,)", "evil"), "fields": header("(1,)", "<f8").replace("'<f8'", "[('a', '<f8')]"),
    }.items()}  # fmt: skip
    made: dict[str, Callable[[], bytes]] = {
        **deep,
        "nothing": lambda: b"",
        "text": lambda: b"labels,logits\n1,2\n",
        "an empty archive": lambda: archive({}),
        "a pickle": lambda: pickle.dumps({"labels": [0, 1]}),
        "a pickled member": lambda: archive({"labels.npy": saved_objects()}),
        "a pickle for a member": lambda: archive({"labels.npy": pickle.dumps([0, 1])}),
        "a bomb": lambda: npz(labels=LABELS, logits=np.zeros(10**7)),
        "a bomb of bzip2": lambda: archive({"labels.npy": saved(np.zeros(10**7))}, zipfile.ZIP_BZIP2),
        "a bomb of lzma": lambda: archive({"labels.npy": saved(np.zeros(10**7))}, zipfile.ZIP_LZMA),
        "entries that overlap": lambda: overlapping(1000),
        "an archive in an archive": lambda: archive({"labels.npy": good}),
        "10,000 members": lambda: archive({f"m{i}.npy": b"" for i in range(10_000)}),
        "a member twice": lambda: archive({"labels.npy": label, "labels": label}),
        "a method that there is not": lambda: good.replace(b"\x08\x00", b"\x63\x00"),
        "encrypted members": lambda: encrypted(good),
        "sizes that are too small": lambda: resized(archive({"labels.npy": label}), 8),
        "sizes that are too large": lambda: resized(archive({"labels.npy": label}), 2**31),
        "a version that there is not": lambda: archive({"labels.npy": npy(header("(1,)"), bytes(8), (9, 9))}),
        "a long header of version 2": lambda: archive(
            {"labels.npy": npy(header("(1,)") + " " * 10**6, bytes(8), (2, 0))}
        ),
        "gzip": lambda: gzip.compress(good),
        "parquet in name": lambda: b"PAR1" + bytes(1000) + b"PAR1",
        "arrow in name": lambda: b"ARROW1\0\0" + bytes(1000),
        "NaN logits": lambda: npz(labels=LABELS, logits=np.full((40, 2), np.nan)),
        "infinite logits": lambda: npz(labels=LABELS, logits=np.full((40, 2), -np.inf)),
        "NaN labels": lambda: npz(labels=np.full(40, np.nan), logits=LOGITS),
        "labels beyond the classes": lambda: npz(labels=LABELS + 7, logits=LOGITS),
        "negative labels": lambda: npz(labels=LABELS - 5, logits=LOGITS),
        "fewer labels": lambda: npz(labels=LABELS[:-1], logits=LOGITS),
        "no labels": lambda: npz(logits=LOGITS),
        "no rows": lambda: npz(labels=LABELS[:0], logits=LOGITS[:0]),
        "three classes": lambda: npz(labels=LABELS, logits=np.zeros((40, 3))),
        "an axis too many": lambda: npz(labels=LABELS, logits=LOGITS[None]),
        "other classes": lambda: npz(labels=LABELS, logits=LOGITS, classes=np.array(["x", "y"])),
        "half characters": lambda: npz(
            labels=LABELS, logits=LOGITS, classes=np.array([[0xD800], [0x110000]], np.uint32)
        ),
        "a weight below zero": lambda: npz(labels=LABELS, logits=LOGITS, sample_weight=np.full(40, -1.0)),
        "a prior of NaN": lambda: npz(labels=LABELS, logits=LOGITS, prior=np.array([np.nan, 1.0])),
    }
    for name in TRAVERSAL[:12]:
        made[f"a member {name!r}"] = lambda name=name: archive({"labels.npy": label, f"{name}.npy": b"x"})  # type: ignore[misc]
    for share in (0.1, 0.3, 0.5, 0.7, 0.9, 0.99):
        made[f"{share:.0%} of an archive"] = lambda share=share: good[: int(len(good) * share)]  # type: ignore[misc]
    for at in range(60, 140, 5):
        made[f"byte {at} changed"] = lambda at=at: changed(good, at, good[at] ^ 0x55)  # type: ignore[misc]
    return made


def saved_objects() -> bytes:
    """An array of pickled objects."""
    file = io.BytesIO()
    np.save(file, np.array([{}, 1], dtype=object), allow_pickle=True)
    return file.getvalue()


def encrypted(data: bytes) -> bytes:
    """With every entry marked as encrypted."""
    made = bytearray(data)
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = made.find(mark)
        while at >= 0:
            made[at + flags] |= 1
            at = made.find(mark, at + 1)
    return bytes(made)


def resized(data: bytes, size: int) -> bytes:
    """With another unpacked size in its directory."""
    at = data.index(b"PK\x01\x02") + 24
    return data[:at] + struct.pack("<I", size) + data[at + 4 :]


def models() -> dict[str, bytes]:
    """What may be sent as a model; those that load and then do harm are in `test_hostile_models`."""
    good = network(2)
    made = {
        "nothing": b"", "text": b"hello", "a pickle": pickle.dumps([1]), "html": b"<html></html>",
        "elf": b"\x7fELF" + bytes(99),
        "a torch file": archive({"archive/data.pkl": pickle.dumps({})}), "zeros": bytes(10**5),
        "gzip": gzip.compress(good),
        "a length past the end": b"\x3a\xff\xff\xff\xff\x0f", "a length of 2^64": b"\x3a" + b"\xff" * 9 + b"\x01",
        "groups without end": b"\x0b" * 10**5, "messages in messages": b"\x3a\x80\x80\x04" * 10**4,
    }  # fmt: skip
    made |= {f"{share:.0%} of a model": good[: int(len(good) * share)] for share in (0.05, 0.2, 0.4, 0.6, 0.8, 0.95)}
    return made


def forms() -> dict[str, tuple[bytes, str]]:
    """Multipart bodies that are none, as a body and a content type."""
    good, kind = form({"spec": SPEC}, {"data": npz(labels=LABELS, logits=LOGITS)})
    return {
        "no boundary": (good, "multipart/form-data"), "an empty boundary": (good, "multipart/form-data; boundary="),
        "another boundary": (good, "multipart/form-data; boundary=x"), "a long boundary": (good, kind + "b" * 5000),
        "cut short": (good[:-20], kind), "nothing": (b"", kind), "an end alone": (b"--b--\r\n", kind),
        "no names": (b"--b\r\n\r\nx\r\n--b--\r\n", kind), "half a header": (b"--b\r\nContent-Dispo", kind),
        "a header without end": (b"--b\r\n" + b"x" * 10**5, kind),
        "one part twice": form({"spec": SPEC, "data": "x"}, {}),
        "a text for the file": form({"spec": SPEC, "data": "x"}, {}), "a file for the text": form({}, {"spec": b"{}",
        "data": b""}),
        "a part that nobody asked for": form({"spec": SPEC, "../x": "y"}, {"data": b""}),
        "no file": form({"spec": SPEC}, {}),
        "no text": form({}, {"data": b"x"}), "1,000 parts": form({f"f{i}": "x" for i in range(1000)}, {}),
        "a long text": form({"spec": "x" * 2**21}, {"data": b"x"}), "bad utf-8": form({"spec": b"\xff\xfe"},
        {"data": b"x"}),
        "form fields": (b"spec=%7B%7D&data=x", "application/x-www-form-urlencoded"),
        "nested": (good.replace(b"name=", b"x; boundary=c; name="), "multipart/mixed; boundary=b"),
    }  # fmt: skip


def files() -> Iterator[Attack]:
    """All of them."""
    for name, make in archives().items():
        body, kind = form({"spec": SPEC}, {"data": make()})
        yield Attack(f"/calibrate: file, {name}", "POST", "/calibrate", body, {"content-type": kind})
    for name, data in models().items():
        body, kind = form({"name": "m"}, {"file": data})
        yield Attack(f"/models: file, {name}", "POST", "/models", body, {"content-type": kind})
    for i, name in enumerate(TRAVERSAL):
        body, kind = form({"name": name.encode("utf-8", "surrogatepass")}, {"file": b"x"})
        yield Attack(f"/models: name {i}", "POST", "/models", body, {"content-type": kind})
    for name, (body, kind) in forms().items():
        for path in ("/calibrate", "/models"):
            yield Attack(f"{path}: form, {name}", "POST", path, body, {"content-type": kind})
