"""What `tritonclient.http.aio` can call."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import tritonclient.http.aio as triton
from tritonclient.http.aio.auth import BasicAuth
from tritonclient.utils import InferenceServerException

from tests.service.oip.clients.checks import Served, run


def rows(served: Served, *, binary: bool = True, values: np.ndarray | None = None) -> Any:
    """The model's input."""
    x = served.x if values is None else values
    made = triton.InferInput("x", list(x.shape), "FP32")
    made.set_data_from_numpy(x, binary_data=binary)
    return made


def within(served: Served, work: Callable[[Any], Awaitable[None]], address: str = "") -> None:
    """Runs the work with a client."""

    async def main() -> None:
        async with triton.InferenceServerClient(address or served.address) as client:
            await work(client)

    asyncio.run(main())


async def raises(call: Awaitable[Any], said: str, status: str) -> None:
    """The error has this text and status."""
    caught = None
    try:
        await call
    except InferenceServerException as error:
        caught = error
    assert caught is not None
    assert said in caught.message(), caught.message()
    assert caught.status() == status, caught.status()


def agrees(result: Any, served: Served) -> None:
    """Labels and numbers are the model's."""
    assert [bytes(word) for word in result.as_numpy("label").tolist()] == served.labels
    assert np.allclose(result.as_numpy("probabilities"), served.probabilities, atol=1e-5)


def check_health_and_metadata(served: Served) -> None:
    """As with the other form."""

    async def work(c: Any) -> None:
        assert await c.is_server_live()
        assert await c.is_server_ready()
        assert await c.is_model_ready("fraud")
        assert await c.is_model_ready("fraud", "2")
        assert (await c.get_server_metadata())["name"] == "setpoint"
        assert (await c.get_model_metadata("fraud", "1"))["name"] == "fraud"
        assert (await c.get_model_config("fraud"))["max_batch_size"] > 0
        assert len(await c.get_model_repository_index()) == 3
        assert len((await c.get_inference_statistics())["model_stats"]) == 3
        assert len((await c.get_inference_statistics("fraud", "1"))["model_stats"]) == 1
        await c.load_model("fraud")

    within(served, work)


def check_infer(served: Served) -> None:
    """Both forms in, and out; it says that it takes brotli, which it cannot read."""

    async def work(c: Any) -> None:
        x = np.repeat(served.x, 30, axis=0)
        for binary in (False, True):
            agrees(await c.infer("fraud", [rows(served, binary=binary)], priority=1, timeout=30_000_000), served)
            for there in (None, "gzip", "deflate"):
                for back in (None, "gzip", "deflate"):
                    result = await c.infer(
                        "fraud", [rows(served, binary=binary, values=x)], request_id="9",
                        request_compression_algorithm=there, response_compression_algorithm=back,
                    )  # fmt: skip
                    assert np.allclose(result.as_numpy("logits"), np.repeat(served.logits, 30, axis=0), atol=1e-5)
                    assert result.get_response()["id"] == "9"
            outputs = [triton.InferRequestedOutput("label", binary_data=False),
                       triton.InferRequestedOutput("margin", binary_data=True)]  # fmt: skip
            result = await c.infer("fraud", [rows(served, binary=binary)], outputs=outputs)
            assert np.allclose(result.as_numpy("margin"), served.logits[:, 1] - served.logits[:, 0], atol=1e-5)
            empty = await c.infer("fraud", [rows(served, binary=binary, values=served.x[:0])])
            assert empty.as_numpy("logits").shape == (0, 2)

    within(served, work)


def check_classes_and_point(served: Served) -> None:
    """Classification, and the operating point by parameter and by header."""

    async def work(c: Any) -> None:
        output = triton.InferRequestedOutput("adjusted", class_count=1)
        result = await c.infer("fraud", [rows(served)], outputs=[output], parameters={"operating_point": "all"})
        assert result.as_numpy("adjusted").shape == (len(served.x), 1)
        assert result.get_response()["parameters"]["operating_point"] == "all@1"
        result = await c.infer("fraud", [rows(served)], headers={"Setpoint-Operating-Point": "none"})
        assert result.get_response()["parameters"]["operating_point"] == "none@1"

    within(served, work)


def check_at_once(served: Served) -> None:
    """Each caller gets its own answer."""

    async def work(c: Any) -> None:
        names = ["all", "none", "argmax"] * 10
        calls = (c.infer("fraud", [rows(served)], parameters={"operating_point": name}) for name in names)
        for name, result in zip(names, await asyncio.gather(*calls), strict=True):
            assert result.get_response()["parameters"]["operating_point"] == f"{name}@1"
            expected = {"all": [b"fraud"], "none": [b"clear"]}.get(name)
            labels = result.as_numpy("label").tolist()
            assert labels == (served.labels if expected is None else expected * len(served.x))

    within(served, work)


def check_base_path_auth_and_errors(served: Served) -> None:
    """As with the other form."""

    async def based(c: Any) -> None:
        agrees(await c.infer("fraud", [rows(served)]), served)

    async def guarded(c: Any) -> None:
        await raises(c.infer("fraud", [rows(served)]), "this call needs", "401")
        c.register_plugin(BasicAuth("anyone", served.token))
        agrees(await c.infer("fraud", [rows(served)]), served)

    async def wrong(c: Any) -> None:
        await raises(c.infer("nope", [rows(served)]), "there is no model 'nope'", "404")

    within(served, based, served.base)
    within(served, guarded, served.guarded)
    within(served, wrong)


if __name__ == "__main__":
    run(globals())
