"""Ray Serve with `@serve.batch`: `python ray_app.py`, port in `PORT`.

As its performance guide advises: asynchronous methods, batching with a short wait, as many requests let in as there
are callers, access log off, and what `RAY_SERVE_THROUGHPUT_OPTIMIZED` sets (set by whoever starts this). One replica.
"""

import os
import signal

import numpy as np
import orjson
import ray
from numpy.typing import NDArray
from ray import serve
from session import open_session, run_together
from starlette.requests import Request
from starlette.responses import Response

Rows = NDArray[np.float32]


@serve.deployment(num_replicas=1, max_ongoing_requests=64, ray_actor_options={"num_cpus": 1})
class Network:
    """Rows in, logits out."""

    def __init__(self) -> None:
        self.session = open_session()

    @serve.batch(max_batch_size=16, batch_wait_timeout_s=0.001)
    async def run(self, asked: list[Rows]) -> list[Rows]:
        """All of them in one run."""
        return run_together(self.session, asked)

    async def __call__(self, request: Request) -> Response:
        """JSON to rows, logits to JSON."""
        rows = np.array(orjson.loads(await request.body())["inputs"], dtype=np.float32)
        made = await self.run(rows)
        return Response(orjson.dumps({"outputs": made.tolist()}), media_type="application/json")


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["PORT"])},
                logging_config={"enable_access_log": False})  # fmt: skip
    serve.run(Network.bind(), route_prefix="/")
    print("ready", flush=True)
    signal.sigwait([signal.SIGTERM, signal.SIGINT])
    ray.shutdown()
