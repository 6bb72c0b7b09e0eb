"""The demo, run once for the tests that go on from what it leaves behind, and a page of a browser."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright


@dataclass(frozen=True)
class Demo:
    """The folder that the demo ran in, and what it said."""

    folder: Path
    said: str

    @property
    def made(self) -> Path:
        """What it left behind."""
        return self.folder / "setpoint-demo"


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """`make demo ONCE=1`, but for the environment that the tests run in already."""
    folder = tmp_path_factory.mktemp("demo")
    done = subprocess.run(
        [sys.executable, "-m", "service.demo", "--once", "--port", "0"],
        cwd=folder, capture_output=True, text=True, timeout=300, env={**os.environ, "COLUMNS": "120"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return Demo(folder, done.stdout)


@pytest.fixture
def page() -> Iterator[Page]:
    """A page of a headless Chromium; anything that it calls an error fails the test."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on this machine")
    said: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        opened = browser.new_page()
        opened.set_default_timeout(10_000)
        opened.on("pageerror", lambda error: said.append(str(error)))
        opened.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        yield opened
        browser.close()
    assert [text for text in said if "the server responded with a status of 4" not in text] == []
