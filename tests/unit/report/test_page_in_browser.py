"""The page of a run as a browser shows it.

Needs Chromium and ``pip install playwright axe-playwright-python``.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.run_directory import write_run

from boltzgen.report.page import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
OPTIONS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
PAINTED = """canvas => {
  const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  let n = 0, hash = 0;
  for (let k = 0; k < pixels.length; k += 4) {
    if (pixels[k + 3] > 0) n += 1;
    hash = (31 * hash + pixels[k] + 7 * pixels[k + 3]) | 0;
  }
  return [n / (pixels.length / 4), hash];
}"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with playwright.sync_playwright() as driver:
        yield driver.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(write_run(tmp_path_factory.mktemp("runs") / "chain"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_in_a_browser(browser: Any, page_file: Path, width: int, scheme: str) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": 800}, color_scheme=scheme, device_scale_factor=2
    )
    page = context.new_page()
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(page_file.as_uri())
    page.wait_for_timeout(300)
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [page_file.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for figure in page.locator("figure svg, figure canvas").all():
        box = figure.bounding_box()
        assert box is not None and box["width"] > 200 and box["height"] > 150
    canvas = page.locator("canvas").first
    assert canvas.evaluate("canvas => canvas.width / canvas.clientWidth") == pytest.approx(2.0, abs=0.02)
    painted, before = canvas.evaluate(PAINTED)
    assert painted > 0.02
    canvas.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(100)
    turned = canvas.evaluate(PAINTED)[1]
    canvas.hover()
    page.mouse.down()
    page.mouse.move(width / 2 + 60, 400, steps=4)
    page.mouse.up()
    page.wait_for_timeout(100)
    dragged = canvas.evaluate(PAINTED)[1]
    page.emulate_media(color_scheme="dark" if scheme == "light" else "light")
    page.wait_for_timeout(100)
    assert len({before, turned, dragged, canvas.evaluate(PAINTED)[1]}) == 4
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_on_the_page_fails_wcag_aa(browser: Any, page_file: Path, width: int, scheme: str) -> None:
    """Contrast and whatever else axe-core finds; injecting it takes the page out of its own policy."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    context = browser.new_context(
        viewport={"width": width, "height": 800}, color_scheme=scheme, bypass_csp=True
    )
    page = context.new_page()
    page.goto(page_file.as_uri())
    options = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}}
    found = axe.run(page, options=options).response
    assert "color-contrast" in {rule["id"] for rule in found["passes"]}
    assert [(rule["id"], rule["nodes"][0]["html"]) for rule in found["violations"]] == []
    context.close()
