"""The commands on one run: what they print and write, a second start, and what they refuse."""

import csv
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import jaxdesc as jd
from jaxdesc.config import Config, CropConfig, ImagesConfig, ScoreConfig, TargetConfig
from jaxdesc.images.sources import open_source
from jaxdesc.report import files
from jaxdesc.result import Neuron, Result
from jaxdesc.scenes import NETWORKS
from jaxdesc.scenes.world import CLASSES
from jaxdesc.store import Place
from tests.report.made_up import page_at

CONFIG = """
from jaxdesc.commands import configs

def get_config():
    config = configs.load("scenes")
    config.ablation.probes = ("scenes:count=5", "scenes:count=5,seed=1")
    config.ablation.views = ("centre", "attention")
    config.ablation.vocabularies = ("file:FOLDER/words.txt", "file:FOLDER/few.txt")
    config.images.source = config.ablation.probes[0]
    config.images.batch = config.clip.batch = 4
    config.vocabulary.source = config.ablation.vocabularies[0]
    config.score.exemplars = 3
    return config
"""
KINDS = ("svg", "png", "html")


def networks_of(networks):
    return {
        "config.target.source": networks.target,
        "config.clip.source": networks.clip,
        "config.evaluation.scorer": networks.clip,
    }


@pytest.fixture(scope="module")
def flags(networks, tmp_path_factory):
    """Flags of a run on five scenes; its working directory is in a folder with its words."""
    folder = tmp_path_factory.mktemp("commands")
    (folder / "config.py").write_text(CONFIG.replace("FOLDER", str(folder)))
    (folder / "words.txt").write_text("star\nheart\nsky\ncat\nmoon\n")
    (folder / "few.txt").write_text("star\nsky\n")
    own = {"config": folder / "config.py", "workdir": folder / "run", "quiet": "true"}
    return own | networks_of(networks)


@pytest.fixture(scope="module")
def printed(command, flags):
    """Output of `tables` and, after it, `describe`."""
    found = {}
    for name in ("tables", "describe"):
        code, found[name], error = command(name, flags)
        assert not code, error
    return found


@pytest.fixture
def workdir(printed, flags):
    return flags["workdir"]


@pytest.fixture
def run(command, printed):
    """Run a command that succeeds, and return what it prints."""

    def run(name, flags):
        code, output, error = command(name, flags)
        assert not code, error
        return output

    return run


def read(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def contents(workdir):
    return {path.name: path.read_bytes() for path in workdir.iterdir() if path.is_file()}


def assert_refused(done, message):
    code, output, error = done
    assert (code, output) == (2, ""), error
    assert re.fullmatch(f"error: .*{message}.*\n", error), error


@pytest.mark.full
def test_tables_of_both_methods(run, printed, workdir, tmp_path):
    output = printed["tables"]
    for row in (
        r"WWW +\| cosine +\| file:.*few.txt ",
        r"ours +\| t-vMF κ=16 +\| file:.*words.txt ",
        r"WWW +\| cosine +\| imagenet +\| — ",
        r"attention, t-vMF κ=16 − centre, cosine \| +\| [+-]\d",
    ):
        assert re.search(rf"\| {row}", output), output
    assert re.search(r"activate \d+\.\d s \d+\.\d\d GiB", output)
    assert {path.name for path in (workdir / "tables").iterdir()} == {
        *(f"table{n}.{kind}" for n in (1, 2) for kind in ("md", "csv", "tex")),
        "differences.csv",
    }
    # A part of it is printed as far as it goes, without a config.
    for name, rows in (("ablation.csv", 3), ("ablation_neurons.csv", 32)):
        lines = (workdir / name).read_text().splitlines()
        assert len(lines) == 1 + 2**4 * rows  # vocabularies, probe sets, views, κ
        (tmp_path / name).write_text("\n".join(lines[: 1 + rows]) + "\n")
    partial = run("tables", {"workdir": tmp_path})
    assert "few.txt" not in partial
    assert partial.splitlines()[-1] == f"tables in {tmp_path / 'tables'}"


STAGES = ("score", "certainty", "properties", "evaluate")


def test_describe_and_its_second_start(command, run, printed, flags, workdir):
    # The networks' output is that of `tables`.
    stages = [rf"{name} \d+\.\d s [^,]*" for name in STAGES]
    assert re.search(rf"\({', '.join(stages)}\)", printed["describe"])
    assert f"results in {workdir}: " in printed["describe"]
    before = contents(workdir)
    lines = [json.loads(line) for line in before["concepts.jsonl"].splitlines()]
    assert [line["unit"] for line in lines] == list(range(32))
    assert all(len(line["exemplars"]) == 3 for line in lines)
    assert "all done before" in run("describe", flags)
    assert contents(workdir) == before
    assert_refused(
        command("describe", flags | {"config.score.kappa": 4, "config.crop.field": 0.5}),
        r"run holds a run with another config \(crop\.field: 0\.65 -> 0\.5; score\.kappa: 16\.0 -> "
        r"4\.0\): give another working directory, or the same config",
    )
    assert contents(workdir) == before


def test_broken_images_are_listed_and_nothing_is_lost(command, networks, tmp_path, rng):
    """Too many stop the run; once they are allowed, it goes on with what it has computed."""
    photos, workdir = tmp_path / "photos", tmp_path / "run"
    photos.mkdir()
    for index in range(4):
        pixels = rng.integers(0, 256, (40 + index, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(photos / f"{index}.png")
    for name in ("4.png", "=1+1.png"):
        (photos / name).write_bytes(b"")
    (tmp_path / "words.txt").write_text("star\nheart\nsky\n")
    flags = networks_of(networks) | {
        "config": "photos",
        "workdir": workdir,
        "tensorboard": "true",
        "config.images.source": f"folder:{photos}",
        "config.images.batch": 4,
        "config.clip.batch": 4,
        "config.vocabulary.source": f"file:{tmp_path / 'words.txt'}",
        "config.score.exemplars": 3,
    }
    message = (
        r"2 of the 6 images of folder:.* can't be used, more than the share 0\.01 that "
        r"config\.images\.max_skipped allows: 4\.png \(is empty\), "
        r"=1\+1\.png .*; repair or remove them, or allow a larger share\."
    )
    assert_refused(command("describe", flags | {"quiet": "true"}), message)
    row = {"reason": "is empty", "source": f"folder:{photos}"}
    listed = [{"image": name, **row} for name in ("4.png", "'=1+1.png")]
    assert read(workdir / "skipped.csv") == listed
    (workdir / "skipped.csv").unlink()
    (computed,) = (workdir / "artifacts").glob("activate-*")
    before = computed.stat()

    code, output, error = command("describe", flags | {"config.images.max_skipped": 0.4})
    assert not code, error
    assert "images left out, listed in skipped.csv: 2 (2 is empty)" in output
    assert computed.stat() == before
    assert read(workdir / "skipped.csv") == listed
    lines = map(json.loads, (workdir / "concepts.jsonl").read_text("utf-8").splitlines())
    shown = {exemplar["image"] for line in lines for exemplar in line["exemplars"]}
    assert shown <= {f"{index}.png" for index in range(4)}
    # In a log, progress is lines; the last one says how long it took.
    assert "\r" not in error
    assert re.search(r"^embed: (\d)/\1 img in \d+\.\d s, [\d.]+ img/s$", error, re.M), error
    events = b"".join(path.read_bytes() for path in (workdir / "tensorboard").glob("*/events*"))
    for tag in ("throughput/embed", "idle_share/activate", "memory_GiB/score", "metrics/hit"):
        assert tag.encode() in events


@pytest.mark.full
def test_sweeps_replace_nothing(run, flags, workdir):
    lists = {"kappa": "0,4", "alpha": "0.5,0.9", "exemplars": "1,3"}
    output = run("sweep", flags | lists)
    assert f"16 cells in {workdir}: sweep.csv, sweep.png, sweep.svg" in output
    assert re.search(r"\| attention +\| +4 +\| +0\.9 +\| +3 ", output)
    assert re.search(r"stages \d+\.\d s \(sweep \d+\.\d s", output)
    rows = read(workdir / "sweep.csv")
    assert len(rows) == 16 * 3  # cells, metrics
    assert {row["probe"] for row in rows} == {"scenes:count=5", "scenes:count=5,seed=1"}
    with Image.open(workdir / "sweep.png") as picture:
        assert picture.format == "PNG"
    before = contents(workdir)
    assert "skipped.csv" in before
    assert "all done before" in run("sweep", flags | lists)
    assert contents(workdir) == before
    # What is not swept is the config's own.
    output = run("sweep", flags | {"kappa": "0,4,16", "views": "centre,attention"})
    assert f"12 cells in {workdir}: sweep-2.csv, sweep-2.png, sweep-2.svg" in output
    found = {
        tuple(row[name] for name in ("view", "kappa", "alpha", "exemplars"))
        for row in read(workdir / "sweep-2.csv")
    }
    assert found == {
        (view, kappa, "0.95", "3")
        for view in ("centre", "attention")
        for kappa in ("0.0", "4.0", "16.0")
    }
    assert before.items() <= contents(workdir).items()


def test_methods_are_compared(run, workdir):
    before = contents(workdir)
    output = run("compare", {"workdir": workdir, "quiet": "true", "methods": "WWW,cos"})
    assert (workdir / "compare.md").read_text(encoding="utf-8") in output
    assert f"methods compared in {workdir}: compare.csv, compare.md, certainty.csv" in output
    assert "activate" not in output  # it was read
    assert [row["method"] for row in read(workdir / "compare.csv")] == ["WWW", "t-vMF", "cos"]
    for row, certain in zip(
        read(workdir / "concepts.csv"), read(workdir / "certainty.csv"), strict=True
    ):
        assert (row["unit"], row["concept"]) == (certain["unit"], certain["concept"])
    assert before.items() <= contents(workdir).items()


def test_labels_are_judged(run, networks, tmp_path):
    """On images that were kept aside, next to a table of labels; the page shows it."""
    (tmp_path / "mine.csv").write_text("unit,description\n0,star\n1,a red thing\n")
    words = tmp_path / "words.txt"
    words.write_text("star\nred\ncat\nmoon\n")
    config = {
        "config": "scenes",
        "config.ablation.views": "()",
        "config.images.source": "scenes:count=40",
        "config.images.split": "0.5",
        "config.vocabulary.source": f"file:{words}",
        "config.score.exemplars": "3",
    }
    own = {"workdir": tmp_path / "run", "quiet": "true"}
    run("describe", config | networks_of(networks) | own)
    output = run("judge", own | {"labels": tmp_path / "mine.csv", "presence": "truth"})
    assert "on 20 images of scenes:" in output
    assert "held out; presence by truth" in output
    assert "judge.csv, judge.json, judge.md" in output
    rows = read(tmp_path / "run" / "judge.csv")
    assert {"run", "mine", "random label", "best label"} == {row["source"] for row in rows}
    mine = [row for row in rows if row["source"] == "mine"]
    assert [row["label"] for row in mine] == ["star", "a red thing"]
    assert mine[1]["correlation"] == ""  # no phrase of the world
    run("report", own | {"heatmaps": "false"})
    report = tmp_path / "run" / "report"
    assert "Labels judged on 20 images" in (report / "index.html").read_text("utf-8")
    (neurons,) = page_at(report)["piece"]["methods"]
    assert [label for _, label, _ in neurons[0]["judged"]][1] == "star"


@pytest.mark.full
def test_a_page_of_two_runs_and_one_of_one(command, run, workdir, tmp_path):
    found = files.read(workdir)
    centre = {"crop": CropConfig(view="centre"), "score": ScoreConfig(kappa=0.0)}
    others = {"images": ImagesConfig(source="scenes:count=7")}
    for name, changes in (("www", centre), ("others", others)):
        files.write(Place(tmp_path / name), replace(found.config, **changes), found.result)

    def data():
        return page_at(workdir / "report")

    flags = {"workdir": workdir, "quiet": "true"}
    output = run("report", flags | {"beside": tmp_path / "www"})
    assert re.fullmatch(r".*report/index\.html: 0\.\d MB with its thumbnails\n", output)
    names = [method["name"] for method in data()["methods"]]
    assert names == ["attention view, t-vMF κ=16", "centre view, cosine"]
    assert data()["piece"]["images"]["sizes"] == [[128, 96]] * 5
    heats = {len(heat.split()) for heat in data()["piece"]["images"]["heats"] if heat}
    assert heats == {4}  # rows of the last stage
    assert set(data()["piece"]["classes"]) - {""} <= {names[0] for names in CLASSES.values()}
    output = run("report", flags | {"beside": tmp_path / "www", "thumbnails": "0,7"})
    assert re.fullmatch(r".*index\.html: 0\.\d MB for 2 neurons were added\n", output)
    output = run("report", flags | {"heatmaps": "false"})
    assert output.startswith(f"{workdir / 'report' / 'index.html'} is replaced\n")
    assert len(data()["methods"]) == 1
    assert set(data()["piece"]["images"]["heats"]) == {""}
    for change, message in (
        ({"beside": tmp_path / "others"}, r"--beside has other images \(scenes:count=7\) than --w"),
        ({"figures": "true", "neurons": "0,32"}, "--neurons has '32': expected numbers of neurons"),
        ({"thumbnails": "0,32"}, "--thumbnails has '32': expected numbers of neurons"),
    ):
        assert_refused(command("report", flags | change), message)


@pytest.mark.full
def test_an_image_is_explained(command, networks, tmp_path):
    config = Config(
        target=TargetConfig(source=str(networks.target), layer="layer4"),
        images=ImagesConfig(source="scenes:count=64"),
        crop=CropConfig(of="unit", field=0.5),
    )
    described = [Neuron("layer4", k, ((f"thing {k}", 0.5),), 0.5, 0.475, ()) for k in range(128)]
    workdir, image = tmp_path / "run", tmp_path / "a star <&.png"
    files.write(Place(workdir), config, Result(tuple(described)))
    open_source("scenes:count=2")[1].image.save(image)
    flags, folder = {"workdir": workdir, "image": image}, workdir / "explanations"
    for more, numbered in (({"peers": 2, "foremost": 4}, ""), ({"peers": 0}, "-2")):
        code, output, error = command("explain", flags | more)
        assert not code, error
        text, last = output.rsplit("}\n", 1)
        found, written = json.loads(text + "}"), [f"a_star___{numbered}.{kind}" for kind in KINDS]
        assert last == f"{', '.join(written)} in {folder}\n"
        assert {path.name for path in folder.iterdir()} >= set(written)
        assert len(found["neurons"]) == more.get("foremost", 3)
        for neuron in found["neurons"]:
            assert neuron["concepts"] == [f"thing {neuron['unit']}"]
            left, top, right, bottom = neuron["window"]
            assert max(right - left, bottom - top) == pytest.approx(0.5, abs=0.02)
        # The predicted class is one of the scenes', so it has peers; without them, no class map.
        assert (found["agreement"] is None) == (more["peers"] == 0)
    # Windows of units at a class token are around other maps.
    tokens = replace(config, target=replace(config.target, pooling="class"))
    files.write(Place(tmp_path / "tokens"), tokens, Result(tuple(described)))
    _, output, _ = command("explain", flags | {"workdir": tmp_path / "tokens", "peers": 0})
    assert '"window"' not in output
    negative = command("explain", flags | {"peers": -1})
    assert_refused(negative, "-1 peers are asked for: expected a number of images, or 0 for none")


def test_a_network_is_converted(command, tmp_path):
    source, output = NETWORKS / "target", tmp_path / "out"
    code, printed, error = command("convert", {"source": source, "output": output})
    assert not code, error
    assert re.fullmatch(rf"{source}: a target of [\d,]+ parameters, now in {output}\n", printed)
    assert jd.load_target(str(output)).classes == jd.load_target("scenes").classes


NONE = {"config.ablation.views": "()"}


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("describe", {"workdir": "gs://none/run", "tensorboard": "true"},
         "--tensorboard writes to this machine alone, but --workdir is gs://none/run: give a "),
        ("describe", NONE | {"config.evaluation.scorer": "/none"},
         "The clip folder '/none' does not exist"),
        ("describe", {"config.ablation.vocabularies": "('file:/no\\nne.txt',)"},
         r"vocabulary file /no ne\.txt can't be read"),
        ("describe", {"config.score.similarity": "cosine", "config.ablation.kappas": "(4.0,)"},
         r"config\.ablation compares t-vMF with the cosine, its κ = 0, but .* is 'cosine'"),
        ("sweep", {"exemplars": "1,2.5"},
         r"--exemplars=1,2\.5 can't be read: expected whole numbers between commas"),
        ("tables", NONE, r"config\.ablation\.views or .* is empty: a table needs both"),
    ],
)  # fmt: skip
def test_a_run_that_can_not_begin(command, flags, tmp_path, name, change, message):
    assert_refused(command(name, flags | {"workdir": tmp_path / "new"} | change), message)
    assert not (tmp_path / "new" / "config.json").exists()


@pytest.mark.parametrize(
    ("name", "flags", "message"),
    [
        ("describe", {"config": "CONFIG"}, r"Unknown config key config\.score\.kapa: did you mean"),
        ("tables", {}, "--workdir is missing: say where results are, or should go"),
        ("compare", {}, "--workdir is missing: say where results are"),
        ("compare", {"workdir": "/none"}, "holds no results: run describe with this --workdir"),
        ("report", {"workdir": "gs://bucket/run"},
         "--workdir is gs://bucket/run, but this script reads and"),
        ("explain", {"workdir": "/none"}, "--image is missing: give the file of an image"),
        ("benchmark", {"subjects": "speed"}, "Unknown subject 'speed': expected one of scoring, "),
    ],
)  # fmt: skip
def test_bad_flags_are_one_sentence(command, tmp_path, name, flags, message):
    config = tmp_path / "config.py"
    config.write_text(
        "from ml_collections import ConfigDict\n"
        "def get_config(): return ConfigDict({'score': {'kapa': 1.0}})\n"
    )
    flags = {key: config if value == "CONFIG" else value for key, value in flags.items()}
    assert_refused(command(name, flags), message)
