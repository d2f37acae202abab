"""Refuse what can't work before anything is computed."""

from jaxdesc.attention.cams import CAMS, check_cam
from jaxdesc.config import Config, ScoreConfig
from jaxdesc.errors import InputError, shown
from jaxdesc.images.preprocess import PRESETS
from jaxdesc.images.windows import VIEWS
from jaxdesc.similarity import SIMILARITIES
from jaxdesc.stages.run import Run


def check_names(config: Config) -> None:
    """Refuse a config for what it alone shows, before anything is loaded.

    Raises:
        InputError: a name that is not an entry of its registry, or a table of another similarity.
    """
    preprocessings, crop = ("", *PRESETS), config.crop
    for key, name, entries in (
        ("target.preprocess", config.target.preprocess, preprocessings),
        ("clip.preprocess", config.clip.preprocess, preprocessings),
        ("crop.cam", crop.cam, tuple(CAMS)),
        ("score.similarity", config.score.similarity, tuple(SIMILARITIES)),
        *(("crop.view", view, VIEWS) for view in (crop.view, *config.ablation.views)),
    ):
        if name not in entries:
            raise InputError(f"config.{key} is {shown(name)}: expected one of {entries}.")
    table = config.ablation.views and config.ablation.kappas
    if table and config.score.similarity != ScoreConfig.similarity:
        raise InputError(
            "config.ablation compares t-vMF with the cosine, its κ = 0, but "
            f"config.score.similarity is {config.score.similarity!r}: choose "
            f"{ScoreConfig.similarity!r}, or no ablation "
            "(--config.ablation.views='()')."
        )


def check(run: Run) -> None:
    """Refuse a config that does not fit its inputs.

    Raises:
        InputError: too few images, a layer, map or view that the inputs don't allow, or class names
            that don't match the target's logits.
    """
    config, source, target, names = run.config, run.inputs.source, run.inputs.target, run.names
    target.check_layer(config.target.layer)
    if "attention" in run.views:
        check_cam(target, config.crop.cam)
    if config.score.exemplars > len(source):
        raise InputError(
            f"config.score.exemplars is {config.score.exemplars}, but {source.spec} holds only "
            f"{len(source)} images: ask for at most as many."
        )
    if "box" in run.views and not source.has_boxes:
        raise InputError(
            f"config.crop.view is 'box', but {source.spec} has no boxes: choose another view."
        )
    if config.crop.cam_class == "label" and not source.has_labels:
        raise InputError(
            f"config.crop.cam_class is 'label', but {source.spec} has no labels: choose "
            "'predicted'."
        )
    if config.ablation.views and config.ablation.kappas and not names:
        raise InputError(
            f"config.ablation asks for a table, but the neurons of layer {config.target.layer!r} "
            "have no known names: use layer 'fc' of a target with label_names, or no ablation."
        )
    if names and len(names) != target.logit_count:
        raise InputError(
            f"{target.name} has {target.logit_count} logits, but names for {len(names)} classes: "
            "give names for each class, or none at all."
        )
    if not all(names):
        raise InputError(
            f"Class {names.index(())} of {target.name} has no name: give names for each class, or "
            "none at all."
        )
