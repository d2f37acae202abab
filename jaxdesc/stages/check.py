"""What can't be right is found before anything is computed."""

from dataclasses import replace

from jaxdesc.config import CropConfig
from jaxdesc.errors import InputError
from jaxdesc.images.example import Source
from jaxdesc.stages.run import Run


def check(run: Run) -> None:
    """Find what can't be right before anything is computed.

    Raises:
        InputError: a config that does not fit its inputs.
    """
    config, source = run.config, run.inputs.source
    run.inputs.target.check_layer(config.target.layer)
    if config.score.exemplars > len(source):
        raise InputError(
            f"config.score.exemplars is {config.score.exemplars}, but {source.spec} holds only "
            f"{len(source)} images: ask for at most as many."
        )
    for view in run.views:
        _check_view(replace(config.crop, view=view), source)
    if "attention" in run.views:
        run.inputs.target.check_cam(config.crop.cam)
    if config.ablation.views and config.ablation.kappas and not run.names:
        raise InputError(
            f"config.ablation asks for a table, but the neurons of layer {config.target.layer!r} "
            "have no known names: use layer 'fc' of a target with label_names, or no ablation."
        )
    _check_names(run)


def _check_view(crop: CropConfig, source: Source) -> None:
    if crop.view == "box" and not source.has_boxes:
        raise InputError(
            f"config.crop.view is 'box', but {source.spec} knows no boxes: choose another view."
        )
    if crop.cam_class == "label" and not source.has_labels:
        raise InputError(
            f"config.crop.cam_class is 'label', but {source.spec} knows no labels: choose "
            "'predicted'."
        )


def _check_names(run: Run) -> None:
    target, names = run.inputs.target, run.names
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
