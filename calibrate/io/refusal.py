"""Errors for models that ONNX Runtime refuses, with the remedy where it is known."""

import re

from calibrate.errors import BadModel

_LOCALE = re.compile(r"[Ll]ocale with name:\s*([A-Za-z0-9_.@-]+?):")


def refused(error: Exception) -> BadModel:
    """Return the error for a model that the runtime refuses, with the remedy where it is known."""
    text = str(error)
    if locale := _LOCALE.search(text):
        name = locale[1]
        return BadModel(
            f"the model's StringNormalizer needs the locale {name}, which this machine lacks. Install it: on Debian "
            f"'apt-get install locales', the line '{name} UTF-8' in /etc/locale.gen, 'locale-gen'. Or export the "
            "model with a locale that is everywhere: skl2onnx takes options={TfidfVectorizer: {'locale': 'C'}}, which "
            "lowers the letters a to z alone"
        )
    return BadModel(f"ONNX Runtime refuses the model: {text[:500]}")
