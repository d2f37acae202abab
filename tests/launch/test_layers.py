"""Several layers of a vision transformer by the commands, and the pages of its hidden units."""

import json
import re

import pytest
import transformers

from tests.models.torch_checkpoints import torch_model
from tests.report.made_up import page_at

LAYERS = "blocks.1/mlp", "blocks.1"
FOLDERS = "blocks.1~2Fmlp", "blocks.1"
# As many hidden units as channels, so that both layers share programs.
SIZES = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 32,
    "image_size": 24, "patch_size": 8, "num_labels": 3,
}  # fmt: skip
RESULTS = {"concepts.csv", "concepts.jsonl", "config.json", "exemplars.png", "metrics.json"}
QUIET = {"quiet": "true"}


@pytest.fixture(scope="module")
def flags(networks, tmp_path_factory):
    """Flags of a run on six scenes; its working directory is in a folder with its words."""
    folder = tmp_path_factory.mktemp("layers")
    torch_model("ViTForImageClassification", SIZES).save_pretrained(folder / "vit")
    transformers.ViTImageProcessorPil(size={"height": 24, "width": 24}).save_pretrained(
        folder / "vit"
    )
    (folder / "words.txt").write_text("star\nheart\nsky\ncat\nmoon\n")
    return QUIET | {
        "config": "photos",
        "workdir": folder / "run",
        "config.target.source": folder / "vit",
        "config.clip.source": networks.clip,
        "config.images.source": "scenes:count=6",
        "config.images.batch": 4,
        "config.clip.batch": 4,
        "config.vocabulary.source": f"file:{folder / 'words.txt'}",
        "config.score.exemplars": 3,
    }


@pytest.fixture(scope="module")
def workdir(command, flags):
    several = flags | {"config.target.layers": ",".join(LAYERS)}
    code, output, error = command("describe", several)
    assert not code, error
    for folder in FOLDERS:
        assert f"results in {flags['workdir'] / folder}: concepts.csv" in output
    before = contents(flags["workdir"])
    code, output, _ = command("describe", several)
    assert "all done before" in output
    assert contents(flags["workdir"]) == before
    return flags["workdir"]


def contents(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    kept = [path for path in files if "compilation_cache" not in path.parts]
    return {str(path.relative_to(folder)): path.read_bytes() for path in kept}


def refusal(done):
    code, output, error = done
    assert (code, output) == (2, ""), error
    return error


def test_each_layer_has_the_files_of_its_own_run(command, flags, workdir, tmp_path):
    found = {path.name for path in workdir.iterdir()} - {"report"}
    assert found == {"artifacts", "config.json", "skipped.csv", *FOLDERS}
    one = flags | {"workdir": tmp_path / "one", "config.target.layer": LAYERS[0]}
    code, _, error = command("describe", one)
    assert not code, error
    alone, among = contents(tmp_path / "one"), contents(workdir)
    for name in (*RESULTS, "skipped.csv"):
        assert alone[name] == among[f"{FOLDERS[0]}/{name}"], name
    assert "layers" not in json.loads(alone["config.json"])["config"]["target"]
    artifacts = {name: alone[name] for name in alone if re.match("artifacts/[a-z]+-", name)}
    assert artifacts
    assert artifacts.items() <= among.items()


def test_other_layers_replace_nothing_unasked(command, flags, workdir, tmp_path):
    other = flags | {"config.target.layers": "blocks.1", "workdir": tmp_path / "run"}
    (tmp_path / "run").mkdir()
    for name, content in contents(workdir).items():
        file = tmp_path / "run" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    message = r"\(target\.layers: \['blocks.1/mlp', 'blocks.1'\] -> \['blocks.1'\]\)"
    assert re.search(message, refusal(command("describe", other)))
    code, output, error = command("describe", other | {"overwrite": "true"})
    assert not code, error
    for name in RESULTS - {"config.json"}:
        assert f"dropped: {FOLDERS[0]}/{name}\n" in output
    assert not (tmp_path / "run" / FOLDERS[0] / "concepts.csv").exists()
    assert (tmp_path / "run" / "blocks.1" / "concepts.csv").exists()
    assert "activate" not in output  # it was read


def test_a_page_for_each_layer_and_one_that_names_them(command, workdir):
    code, output, error = command("report", QUIET | {"workdir": workdir})
    assert not code, error
    assert f"{workdir / 'report' / 'index.html'}: the layers\n" in output
    index = (workdir / "report" / "index.html").read_text("utf-8")
    links = re.findall(r'<a href="([^"]*)">([^<]*)</a></th>\s*<td>(\d+)</td>', index)
    assert [(layer, count) for _, layer, count in links] == [
        ("blocks.1/mlp", "32"),
        ("blocks.1", "32"),
    ]
    pages = [(workdir / "report" / address).resolve() for address, *_ in links]
    assert pages == [(workdir / f / "report" / "index.html").resolve() for f in FOLDERS]
    lines = (workdir / FOLDERS[0] / "concepts.jsonl").read_text("utf-8").splitlines()
    neurons = [json.loads(line) for line in lines]
    page = pages[0].read_text("utf-8")
    data = page_at(pages[0].parent)
    assert data["layer"] == "blocks.1/mlp"
    assert "32 neurons of layer blocks.1/mlp" in page
    assert "the neurons of blocks.1/mlp are not classes" in page
    assert data["units"] == list(range(32))
    (listed,), (pieces,) = data["methods"], data["piece"]["methods"]
    for concepts, shown, neuron in zip(listed["concepts"], pieces, neurons, strict=True):
        assert [data["texts"][place] for place, _ in concepts] == [
            concept["text"] for concept in neuron["concepts"]
        ]
        assert len(shown["exemplars"]) == len(neuron["exemplars"]) == 3
        names = data["piece"]["images"]["names"]
        images = [names[exemplar[0]] for exemplar in shown["exemplars"]]
        assert images == [exemplar["image"] for exemplar in neuron["exemplars"]]
        assert (pages[0].parent / "sheets" / f"{shown['sheet']}.webp").exists()
    # The map of the class, at the first norm of the last block: 3 × 3 patches.
    heats = data["piece"]["images"]["heats"]
    assert {len(heat.split()) for heat in heats if heat} == {3}


def test_one_layer_where_one_is_needed(command, flags, workdir, tmp_path):
    given = QUIET | {"workdir": workdir}
    needed = "has the layers blocks.1/mlp, blocks.1, and one is needed: choose it, such as --layer="
    for name, more in (
        ("compare", {}),
        ("compare", {"layer": "fc"}),
        ("report", {"figures": "true"}),
        ("report", {"layer": "blocks.0"}),
    ):
        assert needed in refusal(command(name, given | more))
    assert needed in refusal(command("explain", {"workdir": workdir, "image": "none.png"}))
    named = refusal(command("compare", given | {"layer": "blocks.1/mlp"}))
    assert "the neurons of layer 'blocks.1/mlp' have no known names" in named
    drawn = {"layer": "blocks.1/mlp", "figures": "true", "neurons": "7"}
    page = workdir / FOLDERS[0] / "report" / "index.html"
    page.unlink(missing_ok=True)
    code, _, error = command("report", given | drawn)
    assert not code, error
    assert page.exists()
    assert (workdir / FOLDERS[0] / "figures" / f"scores_{FOLDERS[0]}_7.svg").exists()
    alone = QUIET | {"workdir": workdir / FOLDERS[1], "layer": "blocks.1"}
    assert "has a single layer: leave --layer=blocks.1 out." in refusal(command("report", alone))
    several = flags | {"workdir": tmp_path / "new", "config.target.layers": "fc,blocks.1"}
    assert "A sweep compares metrics of one layer" in refusal(command("sweep", several))
    table = {"config.ablation.views": "('centre',)", "config.ablation.kappas": "(0.0,)"}
    found = refusal(command("describe", several | table))
    assert "config.ablation compares metrics of one layer, but config.target.layers is " in found
    for names in ("blocks.1,", "blocks.1,BLOCKS.1", ""):
        found = refusal(command("describe", several | {"config.target.layers": names}))
        assert "expected names of layers, each once, which differ in more than case" in found
