"""The page in Chromium: a reader uses it, and it asks for nothing from outside."""

import io
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect, sync_playwright

import jaxdesc as jd
from jaxdesc.evaluation.metrics import f1
from jaxdesc.report import page as pages
from jaxdesc.report.data import Method
from jaxdesc.report.judged import Verdict
from jaxdesc.report.pictures import look
from jaxdesc.result import Exemplar, Result
from tests.plain_target import plain_target
from tests.report.made_up import HOSTILE, Colours, box_of, colour, layer, sure

NEURONS, IMAGES, EXEMPLARS = 1000, 60, 10
WIDE, NARROW = {"width": 1400, "height": 900}, {"width": 390, "height": 844}
expect.set_options(timeout=60_000)  # ms; a busy machine draws a tall page slowly
LONG = f"n02123045/{'a-photo-of-a-tabby-' * 6}0123456789.JPEG"
STABILITY = np.random.default_rng(1).uniform(0, 1, NEURONS).tolist()

VERDICT = Verdict(
    heads=(HOSTILE, "IoU"),
    about=HOSTILE,
    rows=((HOSTILE, "2", "0.500", "0.100"), ("WWW", "2", "0.400", "")),
    labels={0: [(HOSTILE, HOSTILE, (0.5, None)), ("WWW", "a cat", (0.25, 0.125))]},
    notes=(HOSTILE,),
)


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
    return Result(tuple(neurons), skipped=found.skipped, notes=(HOSTILE,))


@pytest.fixture(scope="module")
def pictures():
    return look(Framed(IMAGES + 1), range(IMAGES + 1), plain_target())


@pytest.fixture(scope="module")
def folder(tmp_path_factory, result, pictures):
    written = tmp_path_factory.mktemp("report")
    other = zip(layer(NEURONS, IMAGES, 3, seed=1, rankings=2), result, strict=True)
    other = Result(tuple(replace(neuron, names=same.names) for neuron, same in other))
    first = Method(HOSTILE, sure(result, STABILITY), {}, {HOSTILE: HOSTILE}, verdict=VERDICT)
    methods = [first, Method("WWW", other)]
    pages.write(written, pages.files(HOSTILE, methods, pictures))
    return written


@pytest.fixture
def open_page(browser, folder):
    """Open the page in a new window; it must complain of nothing and stay in its folder."""
    opened = []

    def open_page(viewport=WIDE, scheme="light", fragment="", folder=folder):
        page = browser.new_context(viewport=viewport, color_scheme=scheme).new_page()
        requests, complaints = [], []
        page.on("request", lambda request: requests.append(request.url))
        page.on("requestfailed", lambda request: complaints.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        opened.append((page, requests, complaints, folder.as_uri()))
        page.goto(f"{(folder / 'index.html').as_uri()}{fragment}")
        page.wait_for_selector(".row")
        return page

    yield open_page
    for page, requests, complaints, address in opened:
        page.wait_for_timeout(50)
        page.context.close()
        assert complaints == []
        assert [url for url in requests if not url.startswith(address)] == []


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


def test_text_from_outside_stays_text(page):
    assert page.title() == page.locator("h1").text_content() == HOSTILE
    # Title, note, head of the facts, a fact and its name, the reason of a skipped image; of the
    # judgement what it is about, a measure, a source and a note.
    assert page.locator(".top").text_content().count(HOSTILE) == 10
    assert search(page, "alert(") == [500]
    assert page.locator(".row .label").text_content() == HOSTILE
    open_card(page, 0)
    assert page.locator("#card-title").text_content() == HOSTILE
    text = page.locator(".scores .text").first.text_content()
    assert text.partition("stability")[0] == f"{HOSTILE} = label"
    assert page.locator("img, main script, header script, dialog script").count() == 0


@pytest.mark.full
def test_search_by_neuron_class_and_concept(page, result):
    assert search(page, "446") == [446]
    assert search(page, "#7") == [7]
    assert page.inner_text("#count") == "1 of 1,000"
    assert search(page, "ITEM 123") == [123]  # the class's second name, in no concept
    wanted = [n.unit for n in result if any(text == "stuff 31" for text, _ in n.concepts)]
    assert search(page, "stuff 31") == wanted
    assert search(page, "nothing like it") == []
    search(page, "")
    assert page.inner_text("#count") == "1,000 neurons"


@pytest.mark.full
def test_sorted_and_filtered_by_flags(page, result):
    page.select_option("#sort", label="score")
    for sign in (-1, 1):
        best = sorted(result, key=lambda neuron: sign * float(f"{neuron.maximum:.4g}"))
        assert listed(page) == [neuron.unit for neuron in best][: len(listed(page))]
        page.click("#direction")
    agreement = [f1([text for text, _ in neuron.concepts], neuron.names) for neuron in result]
    stability = [STABILITY[neuron.unit] if neuron.concepts else -1 for neuron in result]
    for label, place, values in (
        ("agreement with the label", 0, agreement),
        ("stability", 1, stability),
    ):
        page.select_option("#sort", label=label)
        shown = page.locator(".marks .value").all_text_contents()[place::2]
        assert shown == [f"{value:.2f}" for value in sorted(values)[::-1][: len(shown)]]

    page.select_option("#sort", label="neuron")
    counts = {
        "dead": 100,
        "no concept": 100,
        "few exemplars": 1,
        "no significant concept": 1,
        "unstable": sum(0 <= value < 0.5 for value in stability),
        "disagree": sum(unit % 7 == 3 and unit % 10 != 9 for unit in range(NEURONS)) - 1,
    }
    flags = page.locator(".flag").all_text_contents()
    assert sorted(flags) == sorted(f"{name} {count}" for name, count in counts.items())
    page.get_by_role("button", name="dead").click()
    assert listed(page) == list(range(9, NEURONS, 10))[: len(listed(page))]
    page.get_by_role("button", name="disagree").click()
    assert page.inner_text("#count") == f"{counts['dead'] + counts['disagree']} of 1,000"


@pytest.mark.full
def test_only_the_rows_near_the_screen_are_there(page, open_page, result):
    wanted = [n.unit for n in result if any(text.startswith("stuff 1") for text, _ in n.concepts)]
    first = search(page, "stuff 1")
    assert first == wanted[: len(first)] != wanted
    height = page.locator(".list").bounding_box()["height"]
    assert height == len(wanted) * page.locator(".list li").first.bounding_box()["height"]
    for share in (0.5, 1.0, 0.2):
        page.evaluate(f"scrollTo(0, {share} * document.body.scrollHeight)")
        page.wait_for_timeout(100)
        found = listed(page)
        place = wanted.index(found[0])
        assert found == wanted[place : place + len(found)]
        assert len(found) < 50
        assert page.evaluate("document.querySelectorAll('.crop').length") < 50 * 6
        seen = page.locator(".row").evaluate_all(
            "rows => rows.filter(r => r.getBoundingClientRect().top < innerHeight"
            " && r.getBoundingClientRect().bottom > 0).length"
        )
        assert seen >= 5
    tall = open_page({"width": 1400, "height": 9000})
    # Not `wait_for_function`: when it polls, the page's policy forbids its eval.
    expect(tall.locator(".row").nth(110)).to_be_attached()


@pytest.mark.full
def test_filtered_by_numbers(page):
    page.locator("#filters summary").click()
    page.get_by_label("stability at least").fill("0.9")
    sure_of = [unit for unit in range(NEURONS) if unit % 10 != 9 and STABILITY[unit] >= 0.9]
    assert listed(page) == sure_of[: len(listed(page))]
    assert page.inner_text("#count") == f"{len(sure_of)} of 1,000"
    page.get_by_label("stability at most").fill("0.95")
    few = [unit for unit in sure_of if STABILITY[unit] <= 0.95]
    page.get_by_label("exemplars at least").fill("3")  # 20 has two
    assert page.inner_text("#count") == f"{len([u for u in few if u != 20])} of 1,000"
    for label in ("stability at least", "stability at most", "exemplars at least"):
        page.get_by_label(label).fill("")
    assert page.inner_text("#count") == "1,000 neurons"


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
    assert not page.locator(".explained").first.is_visible()
    assert not page.locator(".window").first.is_visible()
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog[open]", state="hidden")
    expect(page.locator(":focus")).to_have_attribute("data-place", "312")
    for _ in range(3):
        page.keyboard.press("ArrowUp")
    assert page.evaluate("document.activeElement.id") == "search"
    reached = set()
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.className"))
    assert {"sort", "direction", "flag", "row"} <= reached


def test_a_card_by_its_address_and_back(open_page):
    page = open_page(fragment="#999")
    assert page.inner_text("#card-unit") == "fc 999"
    assert page.locator("#next").is_disabled()
    page.click("#close")
    page.wait_for_selector("dialog[open]", state="hidden")
    open_card(page, 2)
    page.go_back()
    page.wait_for_selector("dialog[open]", state="hidden")


def test_a_card_shows_what_each_method_found(page, result, pictures):
    def explained_of(neuron):
        return [pictures[exemplar.index].explained for exemplar in neuron.exemplars]

    # Named like its class, and sure of it.
    own = (n for n in result if n.unit != 4 and n.concepts and n.concepts[0][0] in n.names)
    neuron = next(n for n in own if len(set(explained_of(n))) > 1)
    search(page, f"#{neuron.unit}")
    open_card(page, 0)
    sides, side = page.locator(".side"), page.locator(".side").first
    assert sides.locator("h3").all_text_contents() == [HOSTILE, "WWW"]
    assert [sides.nth(i).locator(".exemplar").count() for i in (0, 1)] == [EXEMPLARS, 3]
    texts = side.locator(".text").all_text_contents()
    assert [text.partition("stability")[0] for text in texts] == [
        f"{neuron.concepts[0][0]} = label", neuron.concepts[1][0]
    ]  # fmt: skip
    assert texts[0].endswith(f"stability {STABILITY[neuron.unit]:.2f} · q 0.010")
    scores = map(float, side.locator(".scores > li > .value").all_text_contents())
    assert list(scores) == pytest.approx([score for _, score in neuron.concepts], abs=6e-4)
    assert f"threshold {neuron.threshold:.3f}" in side.inner_text()
    captions = side.locator("figcaption").all_text_contents()
    explained = explained_of(neuron)
    assert side.locator(".heat").count() == len(list(filter(None, explained)))
    assert captions == [
        f"{float(f'{exemplar.activation:.4g}'):.2f}{name and f' heatmap: {name}'}{exemplar.image}"
        for exemplar, name in zip(neuron.exemplars, explained, strict=True)
    ]


def test_labels_of_every_source_are_on_the_card(page):
    assert page.locator("header.top table.judged").inner_text().count("0.400") == 1
    open_card(page, 0)
    rows = page.locator("#card-body table.judged tr")
    cells = [rows.nth(row).locator("th, td").all_text_contents() for row in range(3)]
    assert cells[0] == ["labels", "", HOSTILE, "IoU"]
    assert cells[1:] == [[HOSTILE, HOSTILE, "0.50", "–"], ["WWW", "a cat", "0.25", "0.13"]]
    page.click("#next")
    expect(page.locator("#card-unit")).to_have_text("fc 1")
    assert page.locator("#card-body table.judged").count() == 0


def test_a_neuron_has_heatmaps_of_its_own(open_page, tmp_path):
    found = layer(3, 5, 2)
    options = {"images": Framed(6), "target": plain_target(), "of": "unit"}
    jd.write_report(found, tmp_path, **options)
    page = open_page(folder=tmp_path)
    open_card(page, 0)
    captions = page.locator("figcaption").all_text_contents()
    mapped = [caption for caption in captions if "heatmap: this neuron" in caption]
    assert mapped
    assert page.locator(".heat").count() == len(mapped)
    assert page.locator("#heat-switch").is_visible()


def test_a_missing_piece_is_told(browser, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / "units" / "7.js").unlink()
    page = browser.new_context(viewport=WIDE).new_page()
    page.goto(f"{(tmp_path / 'copy' / 'index.html').as_uri()}#450")
    page.wait_for_selector("dialog[open]")
    assert page.inner_text("#card-body") == (
        "units/7.js is missing next to this page: write the report again."
    )
    page.context.close()


def pixel(element, x, y):
    """Colour of an element at fractions of its width and height, as the browser draws it."""
    shot = Image.open(io.BytesIO(element.screenshot())).convert("RGB")
    return shot.getpixel((int(x * shot.width), int(y * shot.height)))


def test_every_exemplar_is_its_image_and_every_crop_its_window(page, result):
    exemplars = result[1].exemplars
    wanted = [colour(exemplar.index) for exemplar in exemplars]
    page.wait_for_selector(".crop")
    crops = page.locator(".row").nth(1).locator(".crop").all()
    for crop, expected in zip(crops, wanted, strict=False):
        for corner in ((0.15, 0.15), (0.85, 0.85)):
            # A window of 6 pixels, enlarged ninefold, is blurred by WebP's coarse colours.
            np.testing.assert_allclose(pixel(crop, *corner), expected, atol=60)
    open_card(page, 1)
    page.uncheck("#heat")
    views = page.locator(".side").first.locator(".view").all()
    for exemplar, view, expected in zip(exemplars, views, wanted, strict=True):
        size = Colours(IMAGES)[exemplar.index].image.size
        left, top, right, bottom = exemplar.box
        image, window = view.bounding_box(), view.locator(".window").bounding_box()
        scale = image["width"] / size[0]
        found = [window["x"] - image["x"], window["y"] - image["y"], window["width"]]
        np.testing.assert_allclose(found, np.array([left, top, right - left]) * scale, atol=1.5)
        middle = (left + right) / 2 / size[0], (top + bottom) / 2 / size[1]
        np.testing.assert_allclose(pixel(view, *middle), expected, atol=40)


@pytest.mark.parametrize(
    ("viewport", "scheme", "least"), [(WIDE, "dark", 160), (NARROW, "light", 140)]
)
def test_light_and_dark_wide_and_narrow(open_page, viewport, scheme, least):
    """A card uses its room and explains its flags."""
    page = open_page(viewport, scheme)
    shades = "getComputedStyle(document.body).{}.match(/\\d+/g).map(Number)"
    paper, ink = (np.mean(page.evaluate(shades.format(of))) for of in ("backgroundColor", "color"))
    assert (paper < ink) == (scheme == "dark")
    overflow = "document.documentElement.scrollWidth - innerWidth"
    assert page.evaluate(overflow) <= 0
    search(page, "#20")
    row = page.locator(".row").first
    assert "2 of 10 exemplars" in row.text_content()
    assert row.locator(".mark").first.get_attribute("title").startswith("it is active on too few")
    open_card(page, 0)
    assert page.evaluate(overflow) <= 0
    assert page.evaluate("card.scrollWidth - card.clientWidth") <= 0
    assert page.locator("#close").is_visible()
    side = page.locator(".side").first
    assert min(cell.bounding_box()["width"] for cell in side.locator(".cell").all()) >= least
    text = side.locator("figcaption .name").first.inner_text()
    assert (text[:15], text[-30:]) == (LONG[:15], LONG[-30:])
    assert len(text) < len(LONG)
    assert side.locator("figure").first.get_attribute("title") == LONG
    assert side.locator(".view").first.get_attribute("aria-label").startswith(LONG)
    told = side.locator(".facts-line").inner_text()
    assert "2 of 10 exemplars" in told
    assert "few exemplars it is active on too few images for a name to be certain" in told
