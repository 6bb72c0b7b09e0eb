"""The Open Inference Protocol (version 2) over REST: what clients of Triton, KServe and MLServer speak.

`datatypes`, `tensors`, `heads`, `codec` and `compression` are pure: bytes and headers to values and back. `metadata`
and `outputs` are pure too. `infer` puts them together without a transport; `handlers` are the routes.
"""
