"""The page in Chromium: a reader uses it, and it asks for nothing from outside."""

import io
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect, sync_playwright

from jaxdesc.report import page as pages
from jaxdesc.report.page import Method
from jaxdesc.report.pictures import look
from jaxdesc.result import Exemplar, Result
from tests.plain_target import plain_target
from tests.report.made_up import HOSTILE, Colours, box_of, colour, layer, sure

NEURONS, IMAGES, EXEMPLARS = 1000, 60, 40
WIDE, NARROW = {"width": 1400, "height": 900}, {"width": 390, "height": 844}
expect.set_options(timeout=60_000)  # ms; a busy machine draws a tall page slowly
LONG = f"n02123045/{'a-photo-of-a-tabby-' * 6}0123456789.JPEG"
full = pytest.mark.full


@pytest.fixture(scope="module")
def browser():
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.fail("These tests need Chromium, and there is none: apt-get install chromium.")
    with sync_playwright() as driver:
        # Chromium has no sandbox for root, the user in a container.
        opened = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()


class Framed(Colours):
    """Images of one colour within their exemplars' box, and white around it."""

    def __getitem__(self, index):
        plain = super().__getitem__(index)
        image = Image.new("RGB", plain.image.size, "white")
        image.paste(colour(index), tuple(map(round, box_of(index))))
        return replace(plain, image=image)


@pytest.fixture(scope="module")
def result():
    """1,000 neurons: 500 has a hostile name and a concept of that name, 20 has few exemplars."""
    found = layer(NEURONS, IMAGES, EXEMPLARS, rankings=7)
    neurons = list(found)
    neurons[500] = replace(found[500], concepts=((HOSTILE, 0.5),), names=(HOSTILE,), maximum=0.5)
    few = Exemplar(LONG, 9.5, box_of(IMAGES), IMAGES), found[20].exemplars[1]
    neurons[20] = replace(found[20], exemplars=few, flags=("few exemplars",))
    return Result(tuple(neurons), skipped=found.skipped)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, result):
    written = tmp_path_factory.mktemp("report")
    stability = np.random.default_rng(1).uniform(0, 1, NEURONS).tolist()
    other = zip(layer(NEURONS, IMAGES, 3, seed=1, rankings=2), result, strict=True)
    other = Result(tuple(replace(neuron, names=same.names) for neuron, same in other))
    methods = [
        Method(HOSTILE, sure(result, stability), {}, {"key": HOSTILE}),
        Method("WWW", other),
    ]
    pictures = look(Framed(IMAGES + 1), range(IMAGES + 1), plain_target())
    pages.write(written, pages.files("A <b>layer</b>", methods, pictures))
    return written


@pytest.fixture
def open_page(browser, folder):
    """Open the page in a new window; it must complain of nothing and stay in its folder."""
    opened = []

    def open_page(viewport=WIDE, scheme="light", fragment=""):
        page = browser.new_context(viewport=viewport, color_scheme=scheme).new_page()
        requests, complaints = [], []
        page.on("request", lambda request: requests.append(request.url))
        page.on("requestfailed", lambda request: complaints.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        opened.append((page, requests, complaints))
        page.goto(f"{(folder / 'index.html').as_uri()}{fragment}")
        page.wait_for_selector(".row")
        return page

    yield open_page
    for page, requests, complaints in opened:
        page.wait_for_timeout(50)
        page.context.close()
        assert complaints == []
        assert [url for url in requests if not url.startswith(folder.as_uri())] == []


@pytest.fixture
def page(open_page):
    return open_page()


def listed(page):
    """Units of the rows that are there."""
    return [int(text) for text in page.locator(".row .unit").all_text_contents()]


def open_card(page, row):
    page.locator(".row").nth(row).click()
    page.wait_for_selector("dialog[open]")


def search(page, text):
    page.fill("#search", text)
    return listed(page)


def test_hostile_names_are_text(page):
    assert search(page, "alert(") == [500]
    assert page.inner_text("h1") == "A <b>layer</b>"
    assert page.locator(".row .label").text_content() == HOSTILE
    open_card(page, 0)
    assert page.locator("#card-title").text_content() == HOSTILE
    text = page.locator(".scores .text").first.text_content()
    assert text.partition("stability")[0] == f"{HOSTILE} = label"
    assert page.locator("img, main script, dialog script").count() == 0


@full
def test_search_by_neuron_class_and_concept(page, result):
    assert search(page, "446") == [446]
    assert search(page, "#7") == [7]
    assert page.inner_text("#count") == "1 of 1,000"
    assert search(page, "ITEM 123") == [123]  # the class's second name, in no concept
    wanted = [n.unit for n in result if any(text == "stuff 31" for text, _ in n.concepts)]
    assert search(page, "stuff 31") == wanted
    assert search(page, "nothing like it") == []
    assert page.inner_text("#count") == "0 of 1,000"
    search(page, "")
    assert page.inner_text("#count") == "1,000 neurons"


@full
def test_sorted_by_score_stability_and_agreement(page, result):
    page.select_option("#sort", label="score")
    best = sorted(range(NEURONS), key=lambda unit: -float(f"{result[unit].maximum:.4g}"))
    assert listed(page) == best[: len(listed(page))]
    page.click("#direction")
    assert listed(page) == best[::-1][: len(listed(page))]
    for label, first in (("agreement with the label", 0), ("stability", 1)):
        page.select_option("#sort", label=label)
        texts = page.locator(".marks .value").all_text_contents()[first::2]
        assert texts == sorted(texts, key=float, reverse=True)


@full
def test_flags_filter(page):
    names = [text.split()[:-1] for text in page.locator(".flag").all_text_contents()]
    assert sorted(map(" ".join, names)) == [
        "dead", "disagree", "few exemplars", "no concept", "no significant concept", "unstable",
    ]  # fmt: skip
    page.get_by_role("button", name="dead").click()
    assert listed(page) == list(range(9, NEURONS, 10))[: len(listed(page))]
    page.get_by_role("button", name="disagree").click()
    wanted = {unit for unit in range(NEURONS) if unit % 10 == 9 or unit % 7 == 3} - {500}
    assert page.inner_text("#count") == f"{len(wanted)} of 1,000"


@full
def test_rows_come_as_the_reader_scrolls_or_the_screen_is_tall(page, open_page):
    assert len(listed(page)) < 200
    assert page.evaluate("document.querySelectorAll('.crop').length") < 200
    for _ in range(300):
        page.evaluate("scrollTo(0, document.body.scrollHeight)")
        page.wait_for_timeout(30)
        if page.locator(".row").count() == NEURONS:
            break
    assert listed(page) == list(range(NEURONS))
    tall = open_page({"width": 1400, "height": 9000})
    # Not `wait_for_function`: when it polls, the page's policy forbids its eval.
    expect(tall.locator(".row").nth(120)).to_be_attached()


@full
def test_by_keyboard_alone(page):
    page.keyboard.press("/")
    page.keyboard.type("stuff 31")
    for key in ("ArrowDown", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    page.wait_for_selector("dialog[open]")
    assert page.inner_text("#card-unit") == "fc 311"
    assert page.inner_text("#card-title") == "thing 311, item 311"
    page.keyboard.press("ArrowRight")
    expect(page.locator("#card-unit")).to_have_text("fc 312")
    assert page.url.endswith("#312")
    assert page.locator(".heat").first.is_visible()
    page.keyboard.press("h")
    page.keyboard.press("w")
    assert not page.locator(".heat").first.is_visible()
    assert not page.locator(".window").first.is_visible()
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog[open]", state="hidden")
    expect(page.locator(":focus")).to_have_attribute("data-place", "312")
    for _ in range(3):
        page.keyboard.press("ArrowUp")
    assert page.evaluate("document.activeElement.id") == "search"
    reached = set()
    for _ in range(9):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.className"))
    assert {"sort", "direction", "flag", "row"} <= reached


@full
def test_a_card_by_its_address_and_back(open_page):
    page = open_page(fragment="#999")
    assert page.inner_text("#card-unit") == "fc 999"
    assert page.locator("#next").is_disabled()
    page.click("#close")
    page.wait_for_selector("dialog[open]", state="hidden")
    open_card(page, 2)
    page.go_back()
    page.wait_for_selector("dialog[open]", state="hidden")


@full
def test_a_card_shows_both_methods_and_names_the_heatmaps_class(page, result):
    open_card(page, 1)
    sides = page.locator(".side")
    assert sides.locator("h3").all_text_contents() == [HOSTILE, "WWW"]
    assert [sides.nth(i).locator(".exemplar").count() for i in (0, 1)] == [EXEMPLARS, 3]
    side = sides.first
    texts = side.locator(".text").all_text_contents()
    assert [text.partition("stability")[0] for text in texts] == ["thing 1 = label", "stuff 0"]
    assert f"threshold {result[1].threshold:.3f}" in side.inner_text()
    told = [text.strip() for text in side.locator(".explained").all_text_contents()]
    assert len(told) == side.locator(".heat").count() > 0
    assert all(text.startswith("heatmap: class ") for text in told)
    assert len(set(told)) > 1
    page.uncheck("#heat")
    assert not side.locator(".explained").first.is_visible()


def pixel(element, x, y):
    """Colour of an element at fractions of its width and height, as the browser draws it."""
    shot = Image.open(io.BytesIO(element.screenshot())).convert("RGB")
    return shot.getpixel((int(x * shot.width), int(y * shot.height)))


@full
def test_every_exemplar_is_its_image_and_every_crop_its_window(page, result):
    wanted = [colour(exemplar.index) for exemplar in result[1].exemplars]
    page.wait_for_selector(".crop")
    crops = page.locator(".row").nth(1).locator(".crop").all()
    for crop, expected in zip(crops, wanted, strict=False):
        for corner in ((0.15, 0.15), (0.85, 0.15), (0.15, 0.85), (0.85, 0.85)):
            # A window of 6 pixels, enlarged ninefold, is blurred by WebP's coarse colours.
            np.testing.assert_allclose(pixel(crop, *corner), expected, atol=60)
    open_card(page, 1)
    page.uncheck("#heat")
    views = page.locator(".side").first.locator(".view").all()
    for exemplar, view, expected in zip(result[1].exemplars[:8], views, wanted, strict=False):
        size = Colours(IMAGES)[exemplar.index].image.size
        left, top, right, bottom = exemplar.box
        image, window = view.bounding_box(), view.locator(".window").bounding_box()
        scale = image["width"] / size[0]
        found = [window["x"] - image["x"], window["y"] - image["y"], window["width"]]
        np.testing.assert_allclose(found, np.array([left, top, right - left]) * scale, atol=1.5)
        middle = (left + right) / 2 / size[0], (top + bottom) / 2 / size[1]
        np.testing.assert_allclose(pixel(view, *middle), expected, atol=40)


@full
@pytest.mark.parametrize(("width", "least"), [(1280, 160), (390, 140)])
def test_a_card_uses_its_room_and_explains_its_flags(open_page, width, least):
    page = open_page({"width": width, "height": 800}, fragment="#20")
    side = page.locator(".side").first
    assert min(cell.bounding_box()["width"] for cell in side.locator(".cell").all()) >= least
    text = side.locator("figcaption .name").first.inner_text()
    assert (text[:15], text[-30:]) == (LONG[:15], LONG[-30:])
    assert len(text) < len(LONG)
    assert side.locator("figure").first.get_attribute("title") == LONG
    assert side.locator(".view").first.get_attribute("aria-label").startswith(LONG)
    told = side.locator(".facts-line").inner_text()
    assert "2 of 40 exemplars" in told
    assert "few exemplars it is active on too few images for a name to be certain" in told
    page.keyboard.press("Escape")
    row = page.locator(".row").nth(20)
    assert "2 of 40 exemplars" in row.inner_text()
    assert row.locator(".mark").first.get_attribute("title").startswith("it is active on too few")


@full
@pytest.mark.parametrize(
    ("viewport", "scheme", "dark"), [(WIDE, "dark", True), (NARROW, "light", False)]
)
def test_light_and_dark_wide_and_narrow(open_page, viewport, scheme, dark):
    page = open_page(viewport, scheme)
    shades = "getComputedStyle(document.body).{}.match(/\\d+/g).map(Number)"
    paper, ink = (np.mean(page.evaluate(shades.format(of))) for of in ("backgroundColor", "color"))
    assert (paper < ink) == dark
    overflow = "document.documentElement.scrollWidth - innerWidth"
    assert page.evaluate(overflow) <= 0
    open_card(page, 1)
    assert page.evaluate(overflow) <= 0
    assert page.evaluate("card.scrollWidth - card.clientWidth") <= 0
    assert page.locator("#close").is_visible()
