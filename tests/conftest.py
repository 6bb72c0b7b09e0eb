"""Checks every array against its written shape and type, on every call that a test makes into the library."""

from jaxtyping import install_import_hook

from tests import typechecks

install_import_hook("calibrate", f"{typechecks.__name__}.check").__enter__()
