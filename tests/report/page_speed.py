"""Time the page: 1,000 neurons with 40 exemplars each, or more of them, in Chromium.

    python -m tests.report.page_speed --images=folder:PHOTOS --output=out/page_speed
    python -m tests.report.page_speed --images=folder:PHOTOS --output=out/many --neurons=49152

Of more than 4,096 the first 1,000 have thumbnails. Concepts, rankings and heatmaps are made up. The
exemplars are 25,000 different images, as many as ImageNet's classes have, but only as many
different photos as the folder holds. Prints sizes, and medians over `--repeats` fresh starts of the
browser.
"""

import argparse
import shutil
import statistics
import time
from pathlib import Path

import numpy as np
from playwright.sync_api import sync_playwright

from jaxdesc.images.sources import open_source
from jaxdesc.report import page
from jaxdesc.report.data import Method
from jaxdesc.report.pictures import encode, look
from jaxdesc.report.report import ALL, SOME
from tests.report.made_up import layer

EXEMPLARS, IMAGES = 40, 25_000
ACTS = {
    "search 1 letter": 'type("s")',
    "search a concept": 'type("stuff 31")',
    "search emptied": 'type("")',
    "sort by agreement": 'choose("agreement with the label")',
    "filter by a number": 'range("exemplars", "at least", "40")',
    "scroll to the middle": "scrollTo(0, document.body.scrollHeight / 2)",
    "filter a flag": 'document.querySelector(".flag").click()',
    "open a card": "openCard(446)",
}
# Until the second frame after the act: by then the first has been painted.
TIMED = """async () => {
  const changed = (id, value, event) => {
    byId(id).value = value;
    byId(id).dispatchEvent(new Event(event));
  };
  const type = (text) => changed("search", text, "input");
  const choose = (text) => changed("sort", SORTS.findIndex(([name]) => name === text), "change");
  const range = (name, words, text) => {
    const field = document.querySelector(`[aria-label="${name} ${words}"]`);
    field.value = text;
    field.dispatchEvent(new Event("input"));
  };
  const began = performance.now();
  ACT;
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  return performance.now() - began;
}"""
LOADED = """() => ({
  painted: performance.getEntriesByName("first-contentful-paint")[0].startTime,
  loaded: performance.getEntriesByType("navigation")[0].loadEventEnd,
})"""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", required=True)
    parser.add_argument("--output", type=Path, default=Path("out/page_speed"))
    parser.add_argument("--neurons", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    path = given.output / "index.html"
    if not path.exists():
        _write(given.images, given.output, given.neurons)
    pieces = [file.stat().st_size for file in (given.output / "units").iterdir()]
    sheets = [file.stat().st_size for file in (given.output / "sheets").iterdir()]
    for what, sizes in (("page", [path.stat().st_size]), ("pieces", pieces), ("sheets", sheets)):
        print(f"{len(sizes)} {what}, {sum(sizes) / 1e6:.2f} MB, the largest {max(sizes) / 1e6:.2f}")
    times = [_measure(path) for _ in range(given.repeats)]
    for name in times[0]:
        values = [run[name] for run in times]
        print(f"{name}: {statistics.median(values):.0f} ms [{min(values):.0f}, {max(values):.0f}]")


def _write(images, output, neurons):
    source = open_source(images)
    photos = look(source, range(len(source)))
    rng = np.random.default_rng(0)
    pictures = {
        index: photos[index % len(source)]._replace(heat=encode(rng.uniform(0, 1, (7, 7))))
        for index in range(IMAGES)
    }
    found = layer(neurons, IMAGES, EXEMPLARS)
    if neurons > ALL:
        shown = {e.index for neuron in found[:SOME] for e in neuron.exemplars}
        pictures = {index: pictures[index] for index in shown}
    page.write(output, page.files(f"{neurons} neurons", [Method("made up", found)], pictures))


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
            times[name] = opened.evaluate(TIMED.replace("ACT", act))
            opened.wait_for_timeout(300)
        browser.close()
    return times


if __name__ == "__main__":
    main()
