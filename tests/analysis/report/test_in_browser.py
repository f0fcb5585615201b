"""The page in a browser: no error, no request; it sorts, filters, shows a trial, and a reload keeps what was asked."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from analysis import figures
from analysis.plots import accuracy_lr
from analysis.report.page import page

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install 'robustsweep[dev]'")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs a chromium on the PATH"),
]

HOSTILE = "</script><img src=x onerror=\"document.title='owned'\"><b>'\"&{{7*7}}\x1b[31m\u202e"

#: Wide and high: a screen, a phone.
SIZES = {"screen": (1280, 900), "phone": (390, 844)}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, new_run: Callable[[Path], Any]) -> Path:
    """24 trials of two methods, and one that failed, whose names are hostile."""
    directory = tmp_path_factory.mktemp("run") / "a <b>run"
    directory.mkdir()
    run = new_run(directory)
    run.launch(["a"], command=f"sweep launch {HOSTILE}")
    for number, (optimizer, lr) in enumerate([(o, lr) for o in ("sgd", "deat") for lr in (0.01, 0.1, 0.2, 0.4)]):
        for seed in (0, 1, 2):
            values = [0.2 + lr / 4, 0.3 + lr / 4 + 0.01 * seed + 0.001 * number]
            run.whole(f"t{number}{seed}", values, seed=seed, optimizer__name=optimizer, optimizer__lr=lr)
    run.trial("bad", optimizer__lr=0.1, seed=9, model__name=HOSTILE)
    run.start("bad", host=HOSTILE)
    run.epoch("bad", 1, 0.1)
    run.outcome("bad", "failed", epochs=1, reason=HOSTILE)
    run.close()
    return directory


@pytest.fixture(scope="module")
def report(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Their page, with one figure of their own."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "TABLES", ())
        patch.setattr(figures, "PLANS", (accuracy_lr.PLAN,))
        path.write_text(page(made, question=HOSTILE), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Shown:
    """A page in the browser, with what it said and whom it asked."""

    def __init__(self, browser: Any, path: Path, size: str, scheme: str) -> None:
        width, height = SIZES[size]
        self.context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        self.page = self.context.new_page()
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.path = path
        self.page.on("console", lambda one: self.errors.append(one.text) if one.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda one: self.errors.append(str(one)))
        self.page.on("request", lambda one: self.requests.append(one.url))

    def open(self, asked: str = "") -> Any:
        self.page.goto(f"{self.path.as_uri()}{asked}")
        self.ready()
        return self.page

    def ready(self) -> None:
        self.page.wait_for_selector("#table[data-ready]")
        self.page.wait_for_selector("#view[data-drawn] canvas")

    def asked_elsewhere(self) -> list[str]:
        return [url for url in self.requests if not url.startswith(("data:", self.path.as_uri()))]


@pytest.fixture
def show(chromium: Any, report: Path) -> Iterator[Callable[..., Shown]]:
    """Opens pages, and holds each to what holds of all of them: no error was said, nobody was asked."""
    opened: list[Shown] = []

    def shown(size: str = "screen", scheme: str = "light", path: Path = report) -> Shown:
        opened.append(Shown(chromium, path, size, scheme))
        return opened[-1]

    yield shown
    for one in opened:
        one.context.close()
        assert one.errors == []
        assert one.asked_elsewhere() == []


def ids(shown: Any) -> list[str]:
    texts: list[str] = shown.locator("#table .tabulator-row a").all_text_contents()
    return texts


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_it_opens_without_an_error_or_a_request_and_fits_its_window(
    size: str, scheme: str, show: Callable[..., Shown]
) -> None:
    shown = show(size, scheme).open()
    assert shown.locator("html").get_attribute("data-theme") == scheme
    assert shown.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for view in ("scatter", "curves", "parallel"):
        shown.click(f"[data-view={view}]")
        shown.wait_for_selector(f"#view[data-drawn={view}] canvas")
        assert shown.evaluate("document.querySelector('#view canvas').clientWidth <= innerWidth")


def test_nothing_hostile_became_an_element_or_ran(show: Callable[..., Shown]) -> None:
    shown = show().open("#trial=bad")
    assert "owned" not in shown.title()
    assert shown.locator("b, img[src=x]").count() == 0
    assert HOSTILE.partition("\x1b")[0] in shown.locator("dialog .note").text_content()
    assert HOSTILE.partition("\x1b")[0] in shown.locator("header .question").text_content()
    assert "\\x1b[31m\\u202e" in shown.locator("dialog .log").text_content()
    shown.keyboard.press("Escape")
    shown.hover(".tabulator-col[tabulator-field=c0]")
    assert shown.locator("b, img[src=x]").count() == 0


def test_a_click_on_a_name_sorts_and_a_reload_keeps_it(show: Callable[..., Shown]) -> None:
    one = show()
    shown = one.open()
    best_first = ids(shown)
    assert best_first[0] == "t72"  # the best, by the metric
    shown.click(".tabulator-col:has-text('optimizer.lr') .tabulator-col-title")
    assert ids(shown)[:1] != best_first[:1]
    assert "sort=optimizer.lr" in shown.url
    order = ids(shown)
    shown.reload()
    one.ready()
    assert ids(shown) == order


def test_fields_outcomes_and_the_search_filter_and_a_reload_keeps_them(show: Callable[..., Shown]) -> None:
    one = show()
    shown = one.open()
    field = shown.locator(".tabulator-col:has-text('optimizer.lr') input")
    field.press_sequentially("0.1..0.2")
    count = shown.locator("#count")
    sync_api.expect(count).to_have_text("13 of 25 trials")
    shown.fill("#search", "deat")
    sync_api.expect(count).to_have_text("6 of 25 trials")
    shown.reload()
    one.ready()
    sync_api.expect(count).to_have_text("6 of 25 trials")
    assert field.input_value() == "0.1..0.2"
    assert shown.input_value("#search") == "deat"
    shown.click("#reset")
    sync_api.expect(count).to_have_text("25 trials")
    shown.click("#outcomes button:has-text('failed')")
    sync_api.expect(count).to_have_text("1 of 25 trials")
    assert ids(shown) == ["bad"]


def test_a_trial_s_curves_log_and_settings_are_one_click_away_and_in_the_address(show: Callable[..., Shown]) -> None:
    one = show()
    shown = one.open()
    shown.click("#table a:has-text('t42')")
    curve = shown.wait_for_selector("dialog[open] #curve canvas")
    assert curve.bounding_box()["width"] > 300
    assert int(shown.get_attribute("#curve", "data-lines")) >= 3
    words = shown.locator("dialog").text_content()
    assert "start on h (cpu), code abc" in words
    assert "completed after 2 epochs" in words
    assert "optimizer.name" in words
    assert "trial=t42" in shown.url
    shown.reload()
    shown.wait_for_selector("dialog[open] #curve canvas")
    assert "t42" in shown.locator("#trial-title").text_content()
    shown.keyboard.press("Escape")
    sync_api.expect(shown.locator("dialog")).to_be_hidden()
    assert "trial" not in shown.url


def test_the_keyboard_opens_a_trial_goes_to_the_next_and_comes_back(show: Callable[..., Shown]) -> None:
    shown = show().open()
    first, second = ids(shown)[:2]
    shown.focus(f"#table a:has-text('{first}')")
    shown.keyboard.press("Enter")
    assert first in shown.locator("#trial-title").text_content()
    shown.keyboard.press("Alt+ArrowDown")
    assert second in shown.locator("#trial-title").text_content()
    shown.keyboard.press("Escape")
    sync_api.expect(shown.locator(f"#table a:has-text('{second}')")).to_be_focused()


def test_dragging_along_an_axis_filters_by_it(show: Callable[..., Shown]) -> None:
    shown = show().open()
    shown.locator("#view").scroll_into_view_if_needed()
    box = shown.locator("#view").bounding_box()
    axes = "view.getModel().queryComponents({mainType: 'parallelAxis'})"
    rate = f"{axes}.find((one) => one.option.name === 'optimizer.lr')"
    x, top = shown.evaluate(f"(({{axis}}) => axis.model.coordinateSystem.getAxisLayout(axis.dim).position)({rate})")
    shown.mouse.move(box["x"] + x, box["y"] + top + 4)
    shown.mouse.down()
    shown.mouse.move(box["x"] + x, box["y"] + top + 120, steps=6)
    shown.mouse.up()
    sync_api.expect(shown.locator("#count")).to_have_text(re.compile(r"^\d+ of 25 trials$"))
    assert "f.optimizer.lr=" in shown.url


def faded(shown: Any, name: str) -> list[str]:
    """At which edges a box fades."""
    return [edge for edge in ("left", "right") if shown.locator(f"{name}.more-{edge}").count()]


def test_what_goes_on_beyond_the_edge_of_a_phone_fades_there_until_it_is_scrolled_to(
    show: Callable[..., Shown],
) -> None:
    shown = show("phone").open()
    for name in ("nav .links", "#table"):
        shown.wait_for_selector(f"{name}.more-right")
        assert faded(shown, name) == ["right"]
    assert shown.locator("#theme").bounding_box()["x"] < SIZES["phone"][0] - 40
    shown.evaluate("document.querySelector('nav .links').scrollLeft = 1e4")
    shown.wait_for_selector("nav .links.more-left:not(.more-right)")


def test_on_a_screen_nothing_fades_that_is_whole(show: Callable[..., Shown]) -> None:
    shown = show().open()
    shown.wait_for_selector("#table.more-right")  # what fades at all has been looked at
    assert faded(shown, "nav .links") == []


def test_a_trial_s_curves_of_clean_and_of_attacked_images_look_unlike(show: Callable[..., Shown]) -> None:
    shown = show().open("#trial=t42")
    shown.wait_for_selector("dialog[open] #curve canvas")
    looks = shown.evaluate("curve.getOption().series.map((one) => [one.name, one.symbol, one.lineStyle.type])")
    told = {name: (symbol, line) for name, symbol, line in looks}
    assert told["test robust"] == ("circle", "solid")
    assert told["test clean"] == ("rect", "dashed")


def test_the_theme_button_turns_light_into_dark_and_a_reload_keeps_it(show: Callable[..., Shown]) -> None:
    one = show()
    shown = one.open()
    before = shown.evaluate("getComputedStyle(document.body).backgroundColor")
    shown.click("#theme")
    assert shown.evaluate("getComputedStyle(document.body).backgroundColor") != before
    shown.reload()
    one.ready()
    assert shown.locator("html").get_attribute("data-theme") == "dark"


def test_links_to_sections_leave_what_is_asked_of_the_table(show: Callable[..., Shown]) -> None:
    shown = show().open("#q=deat")
    shown.click("nav a:has-text('References')")
    assert "q=deat" in shown.url
    sync_api.expect(shown.locator("#references")).to_be_in_viewport()


def test_a_page_that_is_served_is_loaded_anew_once_its_version_has_changed(made: Path, chromium: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "products", lambda data: ([], {}))
        text = page(made, live=True)
    version, loads = ["1"], []

    def answer(route: Any) -> None:
        if route.request.url == "http://run.test/version?token=t":
            route.fulfill(body=version[0], content_type="text/plain")
        else:
            loads.append(route.request.url)
            route.fulfill(body=text, content_type="text/html")

    context = chromium.new_context()
    shown = context.new_page()
    shown.route("**/*", answer)
    with shown.expect_response("**/version?token=t"):
        shown.goto("http://run.test/?token=t#q=deat")
    version[0] = "2"
    with shown.expect_navigation():
        pass
    shown.wait_for_selector("#table[data-ready]")
    assert loads == ["http://run.test/?token=t"] * 2
    assert shown.input_value("#search") == "deat"
    context.close()
