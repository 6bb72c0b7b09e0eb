"""What `tritonclient.http` can call."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tritonclient.http as triton
from tritonclient.http.auth import BasicAuth
from tritonclient.utils import InferenceServerException

from tests.service.oip.clients.checks import Served, run

ALL = {"label", "probabilities", "adjusted", "margin", "logits", "operating_point"}


def client(served: Served) -> triton.InferenceServerClient:
    """A client of the open server."""
    return triton.InferenceServerClient(served.address)


def rows(served: Served, *, binary: bool = True, values: np.ndarray | None = None) -> triton.InferInput:
    """The model's input."""
    x = served.x if values is None else values
    made = triton.InferInput("x", list(x.shape), "FP32")
    made.set_data_from_numpy(x, binary_data=binary)
    return made


def raises(call: Callable[[], Any], said: str, status: str) -> None:
    """The error has this text and status."""
    caught = None
    try:
        call()
    except InferenceServerException as error:
        caught = error
    assert caught is not None
    assert said in caught.message(), caught.message()
    assert caught.status() == status, caught.status()


def agrees(result: triton.InferResult, served: Served) -> None:
    """Every output that came is the model's under its own rule."""
    expected = {"label": served.labels, "probabilities": served.probabilities, "logits": served.logits,
                "adjusted": served.probabilities, "margin": served.logits[:, 1] - served.logits[:, 0],
                "operating_point": [b"argmax@1"] * len(served.x)}  # fmt: skip
    for name in (output["name"] for output in result.get_response()["outputs"]):
        found = result.as_numpy(name)
        if found.dtype == object:
            words = [word if isinstance(word, bytes) else word.encode() for word in found.tolist()]
            assert words == expected[name], (name, words)
        else:
            assert found.shape == np.shape(expected[name])
            assert np.allclose(found, expected[name], atol=1e-5), name


def check_health(served: Served) -> None:
    """Server and model, with and without a version."""
    c = client(served)
    assert c.is_server_live()
    assert c.is_server_ready()
    assert c.is_model_ready("fraud")
    assert c.is_model_ready("fraud", "1")
    assert not c.is_model_ready("nope")
    assert not c.is_model_ready("fraud", "9")


def check_metadata(served: Served) -> None:
    """Of the server, of a model and of a version."""
    c = client(served)
    assert "binary_tensor_data" in c.get_server_metadata()["extensions"]
    for version in ("", "1", "2"):
        told = c.get_model_metadata("fraud", version)
        assert told["versions"] == ["1", "2"]
        assert told["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
        assert {output["name"] for output in told["outputs"]} == ALL


def check_config(served: Served) -> None:
    """As Triton tells one."""
    for version in ("", "1"):
        config = client(served).get_model_config("fraud", version)
        assert config["max_batch_size"] > 0
        assert config["input"][0]["dims"] == [4]


def check_repository_index(served: Served) -> None:
    """Every version."""
    index = client(served).get_model_repository_index()
    assert [(item["name"], item["version"], item["state"]) for item in index] == [
        ("fraud", "1", "READY"), ("fraud", "2", "READY"), ("two", "1", "READY"),
    ]  # fmt: skip


def check_statistics(served: Served) -> None:
    """Of all, of a model, of a version."""
    c = client(served)
    c.infer("fraud", [rows(served)])
    assert len(c.get_inference_statistics()["model_stats"]) == 3
    assert len(c.get_inference_statistics("fraud")["model_stats"]) == 2
    (told,) = c.get_inference_statistics("fraud", "1")["model_stats"]
    assert told["inference_count"] >= len(served.x)


def check_load_and_unload(served: Served) -> None:
    """Load is silent; unload says why not."""
    c = client(served)
    c.load_model("fraud")
    raises(lambda: c.load_model("nope"), "there is no model 'nope'", "404")
    raises(lambda: c.load_model("fraud", config="{}"), "POST /models", "501")
    raises(lambda: c.unload_model("fraud"), "cannot unload it", "501")
    assert c.is_model_ready("fraud")


def check_every_form_of_input_and_output(served: Served) -> None:
    """JSON and binary in; none named, JSON, binary and mixed out."""
    c = client(served)
    wanted = triton.InferRequestedOutput
    for binary in (False, True):
        for outputs, names in (
            (None, ALL),
            ([wanted(name, binary_data=False) for name in sorted(ALL)], ALL),
            ([wanted(name, binary_data=True) for name in sorted(ALL)], ALL),
            ([wanted("logits", binary_data=True), wanted("label", binary_data=False)], {"logits", "label"}),
        ):
            result = c.infer("fraud", [rows(served, binary=binary)], outputs=outputs)
            assert {output["name"] for output in result.get_response()["outputs"]} == names
            agrees(result, served)
    agrees(c.infer("fraud", [rows(served)], model_version="1"), served)


def check_request_id(served: Served) -> None:
    """Comes back."""
    assert client(served).infer("fraud", [rows(served)], request_id="a-7").get_response()["id"] == "a-7"


def check_operating_point(served: Served) -> None:
    """By parameter, by header, by row as a name or an index; told in the answer."""
    c, n = client(served), len(served.x)

    def point(result: triton.InferResult) -> str:
        return str(result.get_response()["parameters"]["operating_point"])

    assert point(c.infer("fraud", [rows(served)], parameters={"operating_point": "all"})) == "all@1"
    assert point(c.infer("fraud", [rows(served)], headers={"Setpoint-Operating-Point": "none"})) == "none@1"
    labels = [b"fraud", b"clear"] * (n // 2)
    names = triton.InferInput("operating_point", [n], "BYTES")
    names.set_data_from_numpy(np.array(["all", "none@1"] * (n // 2), dtype=object))
    listed = c.get_model_metadata("fraud")["properties"]["operating_points"]
    places = triton.InferInput("operating_point", [n], "INT32")
    assert listed == '["argmax@1","all@1","none@1","high-recall@1"]'
    places.set_data_from_numpy(np.array([1, 2] * (n // 2), dtype=np.int32))
    for rowwise in (names, places):
        result = c.infer("fraud", [rows(served), rowwise])
        assert result.as_numpy("label").tolist() == labels
        assert result.as_numpy("operating_point").tolist() == [b"all@1", b"none@1"] * (n // 2)
    raises(lambda: c.infer("fraud", [rows(served)], parameters={"operating_point": "x"}), "point 'x', only", "404")
    result = c.infer("fraud", [rows(served)], model_version="2", parameters={"operating_point": "argmax"})
    assert point(result) == "argmax@2"


def check_custom_parameters(served: Served) -> None:
    """Are passed over."""
    agrees(client(served).infer("fraud", [rows(served)], parameters={"mine": 1, "other": "a", "third": True}), served)


def check_priority_and_timeout(served: Served) -> None:
    """Are taken; a time that is over is told."""
    c = client(served)
    agrees(c.infer("fraud", [rows(served)], priority=1, timeout=30_000_000), served)
    raises(lambda: c.infer("fraud", [rows(served)], timeout=1), "timeout of 1 microseconds was over", "503")


def check_compression(served: Served) -> None:
    """Both ways, in both forms."""
    c, x = client(served), np.repeat(served.x, 30, axis=0)
    for there in (None, "gzip", "deflate"):
        for back in (None, "gzip", "deflate"):
            for binary in (False, True):
                result = c.infer(
                    "fraud", [rows(served, binary=binary, values=x)],
                    request_compression_algorithm=there, response_compression_algorithm=back,
                )  # fmt: skip
                assert np.allclose(result.as_numpy("logits"), np.repeat(served.logits, 30, axis=0), atol=1e-5)


def check_no_rows(served: Served) -> None:
    """Are answered with none."""
    for binary in (False, True):
        result = client(served).infer("fraud", [rows(served, binary=binary, values=served.x[:0])])
        assert result.as_numpy("probabilities").shape == (0, 2)
        assert result.as_numpy("label").shape == (0,)


def check_several_inputs_and_texts(served: Served) -> None:
    """In both forms."""
    for binary in (False, True):
        x, kind = triton.InferInput("x", [2, 2], "FP32"), triton.InferInput("kind", [2, 1], "BYTES")
        x.set_data_from_numpy(served.x[:2, :2], binary_data=binary)
        kind.set_data_from_numpy(np.array([["a"], ["bé"]], dtype=object), binary_data=binary)
        assert client(served).infer("two", [kind, x]).as_numpy("logits").shape == (2, 2)


def check_class_count(served: Served) -> None:
    """Gives value, index and class."""
    for binary in (False, True):
        output = triton.InferRequestedOutput("probabilities", binary_data=binary, class_count=2)
        found = client(served).infer("fraud", [rows(served)], outputs=[output]).as_numpy("probabilities")
        assert found.shape == (len(served.x), 2)
        for row, word, label in zip(served.probabilities, found[:, 0].tolist(), served.labels, strict=True):
            value, index, name = (word if isinstance(word, str) else word.decode()).split(":")
            assert (int(index), name.encode()) == (row.argmax(), label)
            assert abs(float(value) - row.max()) < 1e-5


def check_async_infer(served: Served) -> None:
    """Several at once."""
    c = triton.InferenceServerClient(served.address, concurrency=4)
    for waiting in [c.async_infer("fraud", [rows(served)]) for _ in range(8)]:
        agrees(waiting.get_result(), served)


def check_base_path(served: Served) -> None:
    """The address may hold a path, which a proxy takes off."""
    c = triton.InferenceServerClient(served.base)
    assert c.is_server_ready()
    assert c.get_model_metadata("fraud")["name"] == "fraud"
    agrees(c.infer("fraud", [rows(served)]), served)


def check_basic_auth_and_headers(served: Served) -> None:
    """The token as a password, or as a header; without it 401, and health is open."""
    c = triton.InferenceServerClient(served.guarded)
    assert c.is_server_ready()
    raises(c.get_server_metadata, "this call needs", "401")
    raises(lambda: c.infer("fraud", [rows(served)]), "this call needs", "401")
    headers = {"Authorization": f"Bearer {served.token}"}
    agrees(c.infer("fraud", [rows(served)], headers=headers), served)
    c.register_plugin(BasicAuth("anyone", served.token))
    agrees(c.infer("fraud", [rows(served)]), served)
    assert c.is_model_ready("fraud")


def check_errors(served: Served) -> None:
    """Text and status, and the next request is answered."""
    c = client(served)
    raises(lambda: c.get_model_metadata("nope"), "there is no model 'nope'", "404")
    raises(lambda: c.infer("fraud", [rows(served, values=served.x[:, :2])]), "must have shape [-1, 4], got [", "400")
    raises(lambda: c.infer("two", [rows(served)]), "takes the inputs x, kind", "400")
    nan = np.full_like(served.x, np.nan)
    raises(lambda: c.infer("fraud", [rows(served, values=nan, binary=False)]), "holds NaN or Infinity", "400")
    raises(lambda: c.infer("fraud", [rows(served, values=nan)]), "may not take a missing value", "400")
    raises(lambda: c.infer("fraud", [rows(served)], sequence_id=3), "sequences are not supported", "501")
    agrees(c.infer("fraud", [rows(served)]), served)


def check_what_is_not_here(served: Served) -> None:
    """Shared memory, tracing and logging are 501."""
    c = client(served)
    for call in (
        c.get_system_shared_memory_status, c.get_cuda_shared_memory_status, c.get_trace_settings, c.get_log_settings,
        c.unregister_system_shared_memory, lambda: c.update_log_settings({}), lambda: c.update_trace_settings("fraud"),
        lambda: c.register_system_shared_memory("a", "/a", 1),
    ):  # fmt: skip
        raises(call, "that this server does not have", "501")


if __name__ == "__main__":
    run(globals())
