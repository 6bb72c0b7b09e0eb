"""What the command line prints of a server's answers: what others wrote moves no cursor, and hides or adds no line."""

import json
import unicodedata

_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # control, direction and other formats, halves, ends of lines and paragraphs


def plain(text: str) -> str:
    """A text on one line of characters that are seen; others are written as JSON writes them, as `\\u001b`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(json.dumps(char)[1:-1] if unicodedata.category(char) in _HIDDEN else char for char in text)


def say(*lines: str) -> None:
    """Prints lines."""
    for line in lines:
        print(plain(line))
