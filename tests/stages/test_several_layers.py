"""Several layers from one pass over the images: each is what a run of it alone finds."""

import jax.numpy as jnp
import numpy as np
import pytest

import jaxdesc as jd
from jaxdesc.errors import InputError
from jaxdesc.pipeline import Grid, compare, describe_each, sweep
from jaxdesc.stages import activate as activating
from tests import plain_target
from tests.album import Album, Counting
from tests.runs import CONCEPTS, CONFIG, IMAGES, SIX, begin, changed
from tests.test_pipeline import compiled

LAYERS = ("blocks.0/mlp", "blocks.0", "fc")


def network(params, pixels, tap):
    maps = tap("blocks.0/mlp", plain_target.patches(params, pixels))
    return plain_target.head(params, tap("blocks.0", jnp.tanh(maps) - 0.3 * maps))


@pytest.fixture(scope="module")
def target():
    return plain_target.plain_target(classes=SIX, apply=network)


def asking(*layers):
    return changed(CONFIG, target={"layers": layers})


def described(run):
    """Results by layer."""
    return {part.config.target.layer: result for part, result in describe_each(run)}


def written(folder):
    """Every file of the artifacts, by its path."""
    root = folder / "artifacts"
    files = [path for path in root.rglob("*") if path.is_file() and path.name != "lock"]
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def alone(tmp_path_factory, target, clip):
    """Folder and result of a run of each layer alone."""
    found = {}
    for layer in LAYERS:
        folder = tmp_path_factory.mktemp("alone")
        config = changed(CONFIG, target={"layer": layer})
        ((_, result),) = describe_each(begin(folder, config, target, clip, Album(IMAGES)))
        found[layer] = folder, result
    return found


def test_each_layer_is_as_if_it_were_alone(tmp_path, target, clip, alone):
    source = Counting(IMAGES)
    results = described(begin(tmp_path, asking(*LAYERS), target, clip, source))
    assert list(results) == list(LAYERS)
    every = {}
    for layer, (folder, result) in alone.items():
        assert results[layer].neurons == result.neurons
        assert results[layer].fingerprints == result.fingerprints
        assert results[layer].notes == result.notes
        assert (results[layer].metrics is None) == (layer != "fc")
        every |= written(folder)
    assert written(tmp_path) == every
    # A look at one batch, the pass, and the exemplars' views of each layer.
    assert max(source.decoded.values()) <= 2 + len(LAYERS)


def test_a_layer_that_was_described_is_kept(tmp_path, target, clip, alone):
    config = changed(CONFIG, target={"layer": "blocks.0"})
    list(describe_each(begin(tmp_path, config, target, clip, Album(IMAGES))))
    run, asked = begin(tmp_path, asking(*LAYERS), target, clip, Album(IMAGES)), []
    activate = jd.Target.activate

    def noted(self, pixels, layers, *options):
        asked.append(layers)
        return activate(self, pixels, layers, *options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jd.Target, "activate", noted)
        results = described(run)
    assert set(asked) == {LAYERS}  # one program, whatever is missing
    assert {layer: result.neurons for layer, result in results.items()} == {
        layer: result.neurons for layer, (_, result) in alone.items()
    }
    again = begin(tmp_path, asking("fc", "blocks.0"), target, clip, Album(IMAGES))
    assert list(described(again)) == ["fc", "blocks.0"]
    assert again.seconds == {}


class Killed(Exception):
    pass


@pytest.mark.parametrize("commits", [1, 4, 5, 8, 12])
def test_a_run_that_was_killed_ends_the_same(commits, tmp_path, target, clip, alone):
    """Within a batch, whose layers are committed one after the other, and between two stages."""
    run, left = begin(tmp_path, asking(*LAYERS), target, clip, Album(IMAGES)), iter(range(commits))

    def committed():
        if next(left, None) is None:
            raise Killed

    run.store.committed = committed
    with pytest.raises(Killed):
        described(run)
    partial = written(tmp_path)
    described(begin(tmp_path, asking(*LAYERS), target, clip, Album(IMAGES)))
    expected = {}
    for folder, _ in alone.values():
        expected |= written(folder)
    assert partial != expected
    assert written(tmp_path) == expected


def test_one_program_for_all_layers(tmp_path, clip):
    """Both layers of maps have ten neurons, and share the later programs."""
    target = plain_target.plain_target(apply=lambda *given: network(*given))
    assert target.fingerprint
    config = changed(asking(*LAYERS[:2]), images={"batch": 13}, score={"block": 7})
    with compiled() as names:
        described(begin(tmp_path, config, target, clip, Album(IMAGES)))
    stages = "_activate", "_attend"
    assert {name: names[f"jit({name})"] for name in stages} == dict.fromkeys(stages, 1)


def test_views_and_layers_together(tmp_path, target, clip):
    run = begin(tmp_path, asking(*LAYERS[:2]), target, clip, Counting(IMAGES))
    found = activating.activate_all(run, ["centre", "full"])
    assert run.inputs.source.decoded == dict.fromkeys(range(IMAGES), 1)
    for (layer, view), artifact in found.items():
        part = begin(tmp_path, changed(CONFIG, crop={"view": view}), target, clip, Album(IMAGES))
        again = activating.activate(part.alone(layer))
        assert (again.name, again.computed) == (artifact.name, False)
        assert again.read("activations").shape == (IMAGES, 10)


def test_nan_names_its_layer(tmp_path, clip):
    def broken(params, pixels, tap):
        return network(
            params, pixels, lambda name, x: tap(name, x * (np.nan if "/" in name else 1))
        )

    target = plain_target.plain_target(apply=broken)
    run = begin(tmp_path, asking("blocks.0/mlp"), target, clip, Album(IMAGES))
    with pytest.raises(InputError, match=r"^Layer 'blocks.0/mlp' of target gives NaN"):
        described(run)


def swept(run):
    return next(sweep(run, Grid((0.0,), (1.0,), (2,), ("full",))))


@pytest.mark.parametrize("compute", [compare, swept])
def test_metrics_are_of_one_layer(compute, tmp_path, target, clip):
    run = begin(tmp_path, asking("fc", "blocks.0"), target, clip, Album(IMAGES))
    message = (
        r"metrics of one layer, but config\.target\.layers is 'fc,blocks\.0': give one, with "
        r"config\.target\.layer\.$"
    )
    with pytest.raises(InputError, match=message):
        compute(run)


def test_a_notebook_gets_a_result_for_each(tmp_path, target, clip, alone):
    def ask(**more):
        return jd.describe(
            target, clip, images=Album(IMAGES), concepts=CONCEPTS, workdir=tmp_path, quiet=True,
            **({"config": CONFIG} | more),
        )  # fmt: skip

    found = ask(layers=["fc", "blocks.0"])
    assert {layer: result.neurons for layer, result in found.items()} == {
        layer: alone[layer][1].neurons for layer in ("fc", "blocks.0")
    }
    configured = ask(config=asking("blocks.0"))
    assert list(configured) == ["blocks.0"]
    one = ask(config=asking("blocks.0"), layer="fc")
    assert one.neurons == found["fc"].neurons
    for layers, message in (
        ({"layers": ["fc", "conv"]}, "^Unknown layer 'conv' of target: expected one of fc, blocks"),
        ({"layers": "fc"}, "^layers is 'fc': expected a tuple of str"),
        ({"layers": []}, r"^layer is None, and layers is \[\]: give one layer, or a list of at"),
        ({"layers": ["fc"], "layer": "fc"}, r"^layer is 'fc', and layers is \['fc'\]: give one"),
        ({"layers": ["fc", "FC"]}, "^config.target.layers is .*: expected names of layers, each"),
    ):
        with pytest.raises(InputError, match=message):
            ask(**layers)
