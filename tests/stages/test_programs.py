"""The listed programs are those that a run compiles, with the same shapes."""

import jax
import numpy as np
import pytest

from jaxdesc.attention import cams, units
from jaxdesc.models import encoder, target
from jaxdesc.pipeline import describe_each
from jaxdesc.scoring import block, null, pairs, screening, stability
from jaxdesc.stages import latents
from jaxdesc.stages.programs import Size, programs
from jaxdesc.vocabulary.vocabulary import load_vocabulary, prompts
from tests import plain_target
from tests.album import Album
from tests.runs import CONCEPTS, CONFIG, IMAGES, SIX, artifact, begin, changed
from tests.stages.test_latents import dictionary

FUNCTIONS = [
    *((target, "_activate"), (cams, "_attend"), (encoder, "_views"), (encoder, "_texts")),
    *((units, "_look_at_once"), (units, "_map_units")),
    *((block, "score_block"), (pairs, "pair_cosines"), (pairs, "pair_means")),
    *((pairs, "pair_sums"), (null, "score_sets"), (latents, "pack")),
    *((stability, "mean_cosines"), (screening, "spread"), (screening, "screen_block")),
]


def shapes(arguments, keywords):
    """Everything that makes a call another program: shapes, types of its arrays, the rest."""

    def of(leaf):
        if hasattr(leaf, "shape"):
            return tuple(leaf.shape), np.dtype(leaf.dtype).name
        return leaf if isinstance(leaf, str) else type(leaf).__name__

    return str(jax.tree.map(of, (arguments, keywords)))


@pytest.fixture
def called(monkeypatch):
    """Calls of every program, by name."""
    found = {}
    for module, name in FUNCTIONS:
        function = getattr(module, name)

        def spy(*arguments, name=name, function=function, **keywords):
            found.setdefault(name, []).append(shapes(arguments, keywords))
            return function(*arguments, **keywords)

        spy.program = name
        monkeypatch.setattr(module, name, spy)
    return found


OWN, BOTH, LATENTS = {"of": "unit"}, ("patches", "fc"), ("patches/sae",)


@pytest.mark.parametrize(
    ("crop", "layers"),
    [
        ({}, ()),
        ({"view": "centre"}, ()),
        ({"view": "centre"}, BOTH),
        (OWN, ()),
        (OWN | {"rank": "image", "cam": "layer_cam"}, ()),
        (OWN | {"cam": "layer_cam"}, BOTH),
        ({}, LATENTS),
        ({"view": "centre"}, LATENTS),
    ],
)
def test_a_run_calls_what_is_listed(called, crop, layers, clip, tmp_path):
    config = changed(CONFIG, crop=crop, target={"layers": layers})
    network, concepts = plain_target.plain_target(classes=SIX), load_vocabulary(CONCEPTS)
    lively = dictionary()  # dead latents are not scored
    lively.params["b_enc"][:] = 3
    network = network.with_dictionary("patches", lively)
    texts = clip.text_batches(prompts(concepts, config.vocabulary.template)).shapes
    asked = begin(tmp_path, config, network, clip, Album(IMAGES))
    results = [result for _, result in describe_each(asked)]
    listed = {}
    for views in {len(artifact(tmp_path, each, "embed").read("rows")) for each in results}:
        size = Size(IMAGES, len(concepts.concepts), texts, views)
        for program in programs(config, network, clip, size, jax.devices()[:1]):
            function = program.function
            arguments = *function.args, *program.arguments
            called_so = shapes(arguments, function.keywords)
            listed.setdefault(function.func.program, set()).add(called_so)
    for name, every in called.items():
        if name == "_texts":  # the base template and the judges' words are other batches
            assert listed[name] <= set(every)
        elif layers:  # each with the other's number of exemplars is listed too
            assert set(every) <= listed[name], name
        else:
            assert set(every) == listed[name], name
    # This run is too small for screening.
    assert set(listed) - set(called) == {"spread", "screen_block"}
