"""What others wrote is shown, and does nothing to the terminal."""

import json

import pytest

from service.terminal import plain, say


def test_what_is_not_seen_is_escaped() -> None:
    """Control characters of both ranges, directions, ends of lines, halves; letters of every kind stay."""
    assert plain("\x1b[2J\x9b\x7f\n\r\t") == "\\u001b[2J\\u009b\\u007f\\n\\r\\t"
    assert plain("a\u202eb\u2028\ud800") == "a\\u202eb\\u2028\\ud800"
    assert plain("Größe 数 é \U0001f600") == "Größe 数 é \U0001f600"
    assert plain(plain("\x1b")) == plain("\x1b")


def test_json_stays_json(capsys: pytest.CaptureFixture[str]) -> None:
    """And says the same."""
    found = {"reason": "\x9b2J \u202e \U000e0001 ü", "lines": "a\nb"}
    say(json.dumps(found, ensure_ascii=False))
    out = capsys.readouterr().out
    assert json.loads(out) == found
    assert "\x9b" not in out
    assert out.count("\n") == 1
