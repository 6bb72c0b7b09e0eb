"""Whether two builds of ONNX Runtime are installed over each other.

`onnxruntime` and `onnxruntime-gpu` are two distributions with one import name: the files of the later one replace those
of the other, and the GPU may be gone without a word. Packages that depend on `onnxruntime` bring it in.
"""

from importlib.metadata import PackageNotFoundError, version

_BUILDS = ("onnxruntime", "onnxruntime-gpu")


def warning_of_builds() -> str | None:
    """Return a sentence where both builds are installed and CUDA cannot be used, else None."""
    import onnxruntime as ort

    installed = [f"{name} {found}" for name in _BUILDS if (found := _version(name)) is not None]
    if len(installed) < 2 or "CUDAExecutionProvider" in ort.get_available_providers():
        return None
    return (
        f"{' and '.join(installed)} are both installed and share one import name, so models run on the CPU even where "
        "there is a GPU: 'pip uninstall onnxruntime onnxruntime-gpu', then 'pip install onnxruntime-gpu'"
    )


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
