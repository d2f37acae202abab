"""Time the page: 1,000 neurons with 40 exemplars each, in Chromium.

    python -m tests.report.page_speed --images=folder:PHOTOS --output=out/page_speed

Concepts, rankings and heatmaps are made up. The exemplars are 25,000 different images, as many as
ImageNet's classes have, but only as many different photos as the folder holds. Prints sizes, and
medians over `--repeats` fresh starts of the browser.
"""

import argparse
import shutil
import statistics
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from playwright.sync_api import sync_playwright

from jaxdesc.images.sources import open_source
from jaxdesc.report import page
from jaxdesc.report.page import Method
from jaxdesc.report.pictures import encode, look
from jaxdesc.result import Result
from tests.report.made_up import layer

NEURONS, EXEMPLARS, IMAGES = 1000, 40, 25_000

# From a reader's act to the second frame after it: by then the first has been painted.
ACT = """async (act) => {
  const began = performance.now();
  act();
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  return performance.now() - began;
}"""
ACTS = {
    "search 1 letter": 'type("s")',
    "search a concept": 'type("stuff 31")',
    "search emptied": 'type("")',
    "sort by agreement": 'choose("agreement with the label")',
    "filter a flag": 'document.querySelector(".flag").click()',
    "open a card": "openCard(446)",
}
READER = """
const type = (text) => {
  byId("search").value = text;
  byId("search").dispatchEvent(new Event("input"));
};
const choose = (text) => {
  byId("sort").value = SORTS.findIndex(([name]) => name === text);
  byId("sort").dispatchEvent(new Event("change"));
};
"""
LOADED = """() => {
  const [whole] = performance.getEntriesByType("navigation");
  const [paint] = performance.getEntriesByName("first-contentful-paint");
  return { painted: paint.startTime, loaded: whole.loadEventEnd };
}"""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", required=True)
    parser.add_argument("--output", type=Path, default=Path("out/page_speed"))
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    if not (given.output / "index.html").exists():
        _write(given.images, given.output)
    size = (given.output / "index.html").stat().st_size
    sheets = [path.stat().st_size for path in (given.output / "sheets").iterdir()]
    print(f"index.html {size / 1e6:.2f} MB, {len(sheets)} sheets {sum(sheets) / 1e6:.1f} MB")
    times = [_measure(given.output / "index.html") for _ in range(given.repeats)]
    for name in times[0]:
        values = [run[name] for run in times]
        print(f"{name}: {statistics.median(values):.0f} ms [{min(values):.0f}, {max(values):.0f}]")


def _write(images, output):
    began = time.perf_counter()
    source = open_source(images)
    photos = look(source, range(len(source)))
    made_up = layer(NEURONS, IMAGES, EXEMPLARS)
    result = Result(tuple(_windowed(neuron, photos) for neuron in made_up))
    rng = np.random.default_rng(0)
    pictures = {
        index: photos[index % len(source)]._replace(heat=encode(rng.uniform(0, 1, (7, 7))))
        for index in range(IMAGES)
    }
    page.write(output, page.files("1,000 neurons", [Method("made up", result)], pictures))
    print(f"written in {time.perf_counter() - began:.1f} s")


def _windowed(neuron, photos):
    """The neuron with the photos' own centre windows."""
    exemplars = []
    for exemplar in neuron.exemplars:
        width, height = photos[exemplar.index % len(photos)].size
        side = 0.875 * min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        exemplars.append(replace(exemplar, box=(left, top, left + side, top + side)))
    return replace(neuron, exemplars=tuple(exemplars))


def _measure(path):
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        # The page's policy forbids strings as code, and so the measurement's.
        context = browser.new_context(bypass_csp=True, viewport={"width": 1400, "height": 900})
        opened = context.new_page()
        began = time.perf_counter()
        opened.goto(path.resolve().as_uri())
        opened.wait_for_selector(".crop")
        times = {"first crops there": 1000 * (time.perf_counter() - began)}
        times |= opened.evaluate(LOADED)
        opened.wait_for_timeout(500)
        for name, act in ACTS.items():
            times[name] = opened.evaluate(f"() => {{ {READER} return ({ACT})(() => {act}); }}")
            opened.wait_for_timeout(300)
        browser.close()
    return times


if __name__ == "__main__":
    main()
