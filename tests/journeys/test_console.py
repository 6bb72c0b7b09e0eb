"""The console in a real browser: read the evidence, try a row, move the default."""

import json
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from calibrate import OperatingPoint
from calibrate.io.description import Column, Description
from service.client import Client
from tests.models import network
from tests.servers import Server, running

TOKEN = "a-token-of-32-characters-or-more"
DESCRIPTION = Description(
    ("clear", "fraud"),
    (0.9, 0.1),
    (
        Column("amount", "number", "0"),
        Column("age", "number", "0"),
        Column("country", "category", "neither", {"home": 0, "abroad": 1}),
        Column("hour", "number", "0"),
    ),
)


def prepare(server: Server, folder: Path, name: str = "cards", **details: object) -> None:
    """A model that describes its columns, and a point with evidence."""
    interval = {"value": 0.8, "low": 0.7, "high": 0.9, "confidence": 0.95, "rows": 60, "kind": "held_out"}
    evidence = dict.fromkeys(("recall", "precision", "f1", "g_mean"), interval)
    point = OperatingPoint(("clear", "fraud"), np.ones(2), np.array([0.0, 50.0]))
    (folder / "net.onnx").write_bytes(network(2, metadata=DESCRIPTION.to_metadata()))
    (folder / "high-recall.json").write_text(
        json.dumps({"point": point.to_dict(), "metric": "recall", "method": "x", "evidence": evidence, **details})
    )
    with Client(server.address) as client:
        client.register(folder / "net.onnx", name)
        client.publish(folder / "high-recall.json", name, name="high-recall", model_version=None)


def test_a_person_reads_tries_and_decides(page: Page, server: Server, tmp_path: Path) -> None:
    """The table shows the evidence, the form takes the described columns, the default moves with a reason."""
    page.goto(f"{server.address}/console")
    page.get_by_text("No model is registered yet").wait_for()
    prepare(server, tmp_path)
    page.reload()
    row = page.locator("#points tbody tr", has_text="high-recall@1")
    assert "0.800 [0.700, 0.900]" in row.inner_text()
    assert "submitted" in row.inner_text()
    assert page.locator("#points tr.default").inner_text().startswith("argmax@1")
    assert page.locator("#plane circle").count() == 1

    page.locator("[name=amount]").fill("1,5")
    page.locator("[name=country]").select_option("abroad")
    page.get_by_role("button", name="Decide").click()
    page.get_by_text("it may not take a missing value").wait_for()
    page.locator("[name=age]").fill("40")
    page.locator("[name=hour]").fill("x")
    page.get_by_role("button", name="Decide").click()
    page.get_by_text("hour must be a number, got x").wait_for()
    page.locator("[name=hour]").fill("-3")
    page.get_by_role("button", name="Decide").click()
    page.locator("#answer tbody tr").first.wait_for()
    page.set_viewport_size({"width": 900, "height": 300})
    page.locator("[name=hour]").fill("1e300")
    page.get_by_role("button", name="Decide").click()
    expect(page.locator("#message.error")).to_be_in_viewport()  # far above the form
    expect(page.locator("#answer tbody")).to_have_count(0)  # what was decided is not of this row
    page.set_viewport_size({"width": 1280, "height": 720})
    page.locator("[name=hour]").fill("-3")
    page.get_by_role("button", name="Decide").click()
    page.locator("#answer tbody tr").first.wait_for()
    ask = {"model": "cards", "inputs": [[1.5, 40, 1, -3]] * 2, "operating_point": ["argmax", "high-recall"]}
    predictions = server.post("/predict", ask)["predictions"]
    shown = [tuple(text.split("\t")) for text in page.locator("#answer tbody tr").all_inner_texts()]
    assert shown == [
        (name, row["label"], f"{row['margin']:.2f}")
        for name, row in zip(("argmax@1", "high-recall@1"), predictions, strict=True)
    ]

    row.get_by_role("button", name="Make default").click()
    page.keyboard.press("Escape")
    row.get_by_role("button", name="Make default").click()
    page.locator("[name=reason]").fill("we miss too many")
    page.get_by_role("button", name="Make it the default").click()
    page.get_by_text("high-recall@1 is the default now").wait_for()
    assert page.locator("#points tr.default").inner_text().startswith("high-recall@1")
    (newest, *_) = server.get("/audit")
    assert newest["details"]["reason"] == "we miss too many"


def test_a_point_is_approved_watched_named_and_rolled_back_in_the_page(
    page: Page, server: Server, tmp_path: Path
) -> None:
    """Each change asks why; evidence that speaks against it is shown, and must be overridden by hand."""
    prepare(server, tmp_path, "lives", constraints=["recall >= 0.9"])
    page.goto(f"{server.address}/console")
    page.locator("#model").select_option("lives")
    row = page.locator("#points tbody tr", has_text="high-recall@1")

    def change(button: str, confirm: str, said: str, reason: str = "", *, override: bool = False) -> None:
        row.get_by_role("button", name=button).click()
        answer(page, confirm, said, reason or f"{button} it", override=override)

    change("Shadow", "Shadow", "high-recall@1 is in the shadow.")
    assert "shadow" in row.inner_text()
    for name, value in (("amount", "1"), ("age", "40"), ("hour", "3")):
        page.locator(f"[name={name}]").fill(value)
    page.locator("[name=country]").select_option("home")
    page.get_by_role("button", name="Decide").click()
    page.locator("#answer tbody tr").nth(1).wait_for()
    assert page.locator("#answer tbody tr").nth(1).inner_text().split("\t")[::2] == ["high-recall@1", "would"]
    row.get_by_role("button", name="Counts").click()
    page.get_by_text("1 rows, ").wait_for()
    assert page.locator("#shadow tbody tr").inner_text().startswith("argmax@1")

    row.get_by_role("button", name="Approve").click()
    page.locator("#change [name=reason]").fill("Approve it")
    page.locator("#change-do").click()
    page.get_by_text("wanted recall >= 0.9, found 0.8 [0.7, 0.9]").wait_for()
    assert page.locator("#change [name=reason]").input_value() == "Approve it"
    page.locator("#change [name=override]").check()
    page.locator("#change-do").click()
    page.get_by_text("high-recall@1 is approved.").wait_for()

    change("Make default", "Make it the default", "high-recall@1 is the default now.", "", override=True)
    page.get_by_role("button", name="Roll back to argmax@1").click()
    answer(page, "Roll back", "argmax@1 is the default again.", "too many alerts")
    assert page.locator("#points tr.default").inner_text().startswith("argmax@1")

    page.locator("#alias [name=alias]").fill("tills")
    page.locator("#alias [name=point]").select_option("argmax@1")
    page.get_by_role("button", name="Set alias").click()
    answer(page, "Lead it there", "tills leads to argmax@1 now.", "for the tills")
    assert page.locator("#aliases tr").inner_text().split("\t")[:2] == ["tills", "argmax@1"]
    page.locator("#aliases").get_by_role("button", name="Take away").click()
    answer(page, "Take away", "tills is no alias any more.", "gone")
    change("Retire", "Retire", "high-recall@1 is retired.", "not used")
    assert "retired" in row.inner_text()

    entries = server.get("/audit?model=lives")
    assert [entry["action"] for entry in entries] == [
        "retire", "drop alias", "set alias", "roll back", "set default", "approve", "shadow", "publish", "register",
    ]  # fmt: skip
    assert [entry["details"].get("reason") for entry in entries[:4]] == [
        "not used",
        "gone",
        "for the tills",
        "too many alerts",
    ]
    assert all(entries[i]["details"]["overridden"] for i in (4, 5))
    shown = page.locator("#audit tbody tr")
    assert shown.count() == len(entries)
    assert [code.get_attribute("title") for code in page.locator("#audit td[title]").all()] == [
        entry["hash"] for entry in entries
    ]
    assert "too many alerts" in shown.nth(3).inner_text()


def test_the_page_says_what_a_point_was_fitted_for(page: Page, server: Server, tmp_path: Path) -> None:
    """Metric, constraint, prevalence and positive class, and what the fit warned of; the table stays on the page."""
    prepare(server, tmp_path, "purposes", constraints=["recall[fraud] >= 0.8", "alert_rate <= 0.01"],
            prevalence=[0.995, 0.005], warnings=["class 'fraud' has 12 rows"])  # fmt: skip
    page.set_viewport_size({"width": 1280, "height": 800})
    page.goto(f"{server.address}/console")
    page.locator("#model").select_option("purposes")
    row = page.locator("#points tbody tr", has_text="high-recall@1")
    words = "recall with recall[fraud] >= 0.8 and alert_rate <= 0.01, for a prevalence of 0.5 % positive: fraud"
    assert words in " ".join(row.inner_text().split())
    row.get_by_text("1 warning").click()
    row.get_by_text("class 'fraud' has 12 rows").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth <= 1280")


def answer(page: Page, confirm: str, said: str, reason: str, *, override: bool = False) -> None:
    """Tries to go on without a reason, then gives one; overrides what speaks against it where that is told."""
    page.get_by_role("button", name=confirm, exact=True).last.click()
    assert page.locator("#change").evaluate("dialog => dialog.open")
    page.locator("#change [name=reason]").fill(reason)
    page.locator("#change-do").click()
    if override:
        page.locator("#change [name=override]").check()
        page.locator("#change-do").click()
    page.get_by_text(said).wait_for()


def test_a_server_with_a_token_asks_for_it(page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once for the tab; a wrong one is asked for again."""
    monkeypatch.setenv("SETPOINT_TOKEN", TOKEN)
    with running(tmp_path, SETPOINT_TOKEN=TOKEN) as server:
        prepare(server, tmp_path)
        page.goto(f"{server.address}/console")
        for token, said in (("wrong", ""), (TOKEN, "the key is not one of this server's")):
            expect(page.locator("#token[open] #token-refused")).to_contain_text(said)
            page.locator("#token[open] [name=token]").fill(token)
            page.get_by_role("button", name="Continue").click()
        page.locator("#points tbody tr").first.wait_for()
        page.reload()
        page.locator("#audit tbody tr").first.wait_for()  # it is asked for last
        assert TOKEN not in page.content()
        assert page.evaluate("Object.keys(localStorage).length") == 0
        page.get_by_role("button", name="Key").click()
        page.locator("#token[open] [name=token]").fill("another")
        page.get_by_role("button", name="Continue").click()
        page.locator("#token[open] [name=token]").fill(TOKEN)
        with page.expect_response(lambda response: "/audit" in response.url and response.ok) as last:
            page.get_by_role("button", name="Continue").click()
        last.value.finished()


def test_the_api_page_works_without_the_internet(page: Page, server: Server) -> None:
    """Every operation is listed, with nothing fetched from elsewhere."""
    elsewhere: list[str] = []
    page.on("request", lambda request: elsewhere.append(request.url) if server.address not in request.url else None)
    page.goto(f"{server.address}/docs")
    page.locator(".opblock").first.wait_for()
    assert page.locator(".opblock").count() == len(
        [verb for path in server.get("/openapi.json")["paths"].values() for verb in path]
    )
    assert [url for url in elsewhere if not url.startswith(("data:", "blob:"))] == []


def test_a_risk_is_tried_on_a_model_without_a_file(page: Page, server: Server) -> None:
    """The form asks for the probability of the second class; the answer is that of the call."""
    server.post("/models", {"name": "risk", "classes": ["alive", "died"]})
    page.goto(f"{server.address}/console")
    page.locator("#model").select_option("risk")
    page.get_by_text("on scores that are computed elsewhere").wait_for()
    page.get_by_role("button", name="Decide").click()
    page.get_by_text("probability of died must be a number from 0 to 1, got nothing").wait_for()
    page.get_by_label("probability of died").fill("0,7")
    page.get_by_role("button", name="Decide").click()
    page.locator("#answer tbody tr").first.wait_for()
    (predicted,) = server.post("/predict", {"model": "risk", "probabilities": [0.7]})["predictions"]
    assert page.locator("#answer tbody tr").inner_text().split("\t") == [
        "argmax@1",
        "died",
        f"{predicted['margin']:.2f}",
    ]
    page.get_by_text("alive 0.300, died 0.700").wait_for()
