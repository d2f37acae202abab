"""Folders of layers in a working directory."""

from pathlib import Path

import pytest

from jaxdesc.store import Place
from jaxdesc.store.workdir import folder_of, is_result

LAYERS = [
    *("fc", "layer4", "blocks.10/mlp", "blocks.10_mlp", "blocks.10", "blocks.10~2Fmlp"),
    *("x:2", "Conv_0", "a b", "a%20b", "a+b", "..", ".", "../up", "~", "é", "a\\b", "a\n"),
    *("artifacts", "report", "figures-2", "config.json", "index.html", "compilation_cache"),
    *("~61rtifacts", "concepts.csv", "tensorboard", ".hidden", "lock"),
]


def test_layers_have_folders_of_their_own():
    folders = [folder_of(layer) for layer in LAYERS]
    assert len(set(folders)) == len(LAYERS)
    assert folders[:5] == ["fc", "layer4", "blocks.10~2Fmlp", "blocks.10_mlp", "blocks.10"]
    for folder in folders:
        assert Path("work", folder).parent == Path("work")
        assert not folder.startswith(".")
        assert not is_result(folder)
        assert not is_result(f"{folder}/index.html")
    assert not {"artifacts", "compilation_cache", "index.html"} & set(folders)


@pytest.mark.parametrize("layer", LAYERS)
def test_a_bucket_keeps_their_names(layer):
    """An address is decoded by the store."""
    folder = Place("memory://work").at(folder_of(layer))
    assert folder.name == folder_of(layer)
    assert folder._spec["path"] == f"work/{folder_of(layer)}/"
