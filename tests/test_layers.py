"""Dependencies point one way, and importing the package does nothing but define it."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("jaxdesc", "launch", "configs")

CORE = (
    *("similarity", "attention", "saliency", "exemplars", "scoring", "evaluation"),
    *("contribution", "compiler", "ahead", "mesh"),
)
ARITHMETIC = {"jax", "numpy", "jaxtyping"}

# What each layer may import beside the standard library: packages, and modules of this package.
LAYERS = {
    **dict.fromkeys(CORE, (ARITHMETIC, CORE)),
    "errors": (set(), ()),
    "progress": ({"tqdm"}, ()),
    "fingerprint": (ARITHMETIC, ()),
    "store": ({"numpy", "tensorstore"}, ("store", "errors", "fingerprint")),
    "images": (
        ARITHMETIC | {"PIL", "array_record", "grain", "tensorflow_datasets"},
        (
            *("images", "errors", "attention", "imagenet", "wordnet", "scenes.world"),
            "store.workdir",  # what a folder leaves out
        ),
    ),
    "wordnet": (set(), ("errors",)),
    "imagenet": (set(), ("errors", "wordnet")),
    "names": (set(), ("errors",)),
    "vocabulary": (set(), ("errors", "imagenet", "names", "wordnet", "scenes.captions")),
    "models": (
        ARITHMETIC | {"flax", "huggingface_hub", "safetensors", "transformers"},
        (
            *("models", "images", "attention", "saliency", "compiler", "mesh", "fingerprint"),
            *("errors", "scenes", "imagenet", "wordnet", "names"),
        ),
    ),
}
# Where a layer's rule is wider for one module.
WIDER = {
    "evaluation.statistics": {"scipy"},
    "models.checkpoint": {"orbax"},
    "models.pytorch": {"torch"},  # where it is installed
}

# Names of the packages that are imported under another one.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "absl": "absl-py",
    "array_record": "tensorflow-datasets",  # which needs it
    "huggingface_hub": "huggingface-hub",
    "ml_collections": "ml-collections",
    "orbax": "orbax-checkpoint",
    "tensorflow_datasets": "tensorflow-datasets",
}


def modules():
    """Every module of the project and its file."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


MODULES = dict(modules())
# A method that needs all of the above its module, and imports it when it is called.
DEFERRED = {("jaxdesc.models.target", "jaxdesc.stages.sanity")}


def imports_of(module):
    """Everything a module imports, at its top or inside a function: (module, name or None)."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {(alias.name, None) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively, line {node.lineno}"
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                whole = submodule in MODULES
                found.add((submodule, None) if whole else (node.module, alias.name))
    return found


IMPORTS = {module: imports_of(module) for module in MODULES}


def within(module, layers):
    return any(
        module == f"jaxdesc.{layer}" or module.startswith(f"jaxdesc.{layer}.") for layer in layers
    )


def inside(module):
    """The project's own modules that a module imports."""
    own = {name for name, _ in IMPORTS[module] if name.partition(".")[0] in FOLDERS}
    return {name for name in own if (module, name) not in DEFERRED}


def outside(module):
    """The installed packages that a module imports."""
    roots = {name.partition(".")[0] for name, _ in IMPORTS[module]}
    return roots - set(sys.stdlib_module_names) - set(FOLDERS)


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_imports_what_it_may(layer):
    packages, layers = LAYERS[layer]
    members = [module for module in MODULES if within(module, [layer])]
    assert members
    for module in members:
        may = packages | WIDER.get(module.removeprefix("jaxdesc."), set())
        assert outside(module) <= may, module
        assert {name for name in inside(module) if not within(name, layers)} == set(), module


def test_models_know_only_where_the_scenes_networks_lie():
    taken = {
        (name, what)
        for module in MODULES
        if within(module, ["models"])
        for name, what in IMPORTS[module]
        if within(name, ["scenes"])
    }
    assert taken == {("jaxdesc.scenes", "NETWORKS")}


def reached(module):
    """All of the project's modules that a module imports, and those that they import."""
    found, ahead = set(), [module]
    while ahead:
        new = inside(ahead.pop()) - found
        found |= new
        ahead += new
    return found


@pytest.mark.parametrize("layer", ["images", "store", "vocabulary", "fingerprint"])
def test_input_and_output_reach_no_model(layer):
    for module in MODULES:
        if within(module, [layer]):
            assert not [name for name in reached(module) if within(name, ["models"])], module
            packages = set.union(*(outside(name) for name in {module, *reached(module)}))
            assert not packages & {"flax", "transformers", "safetensors"}, module


def test_nothing_goes_in_circles():
    for module in MODULES:
        assert module not in reached(module), module


STAGES = (
    "activate",
    "select",
    "embed",
    "encode",
    "score",
    "certainty",
    "words",
    "evaluate",
    "sweep",
)


def test_a_module_a_stage_and_only_the_pipeline_knows_their_order():
    """Elsewhere a run is opened and checked, and one stage is timed, or run on a batch."""
    assert {f"jaxdesc.stages.{name}" for name in STAGES} <= inside("jaxdesc.pipeline")
    for module in MODULES:
        taken = {name for name in inside(module) if within(name, ["stages"])}
        timed = {"activate"} if within(module, ["benchmark", "sanity"]) else set()
        known = STAGES if module == "jaxdesc.pipeline" or within(module, ["stages"]) else timed
        assert taken <= {f"jaxdesc.stages.{name}" for name in ("run", "check", "texts", *known)}, (
            module
        )
        assert not taken or not within(module, [*LAYERS, "scenes", "config", "result"]), module


SHARED = ("command", "configs", "flags", "help", "inputs", "processes")  # by commands


def test_the_command_line_is_on_top():
    """Nothing imports a command or a script, and only the command line knows of flags."""
    for module in MODULES:
        top = module.partition(".")[0]
        taken = {name for name in inside(module) if within(name, ["cli", "commands"])}
        packages = outside(module) - WIDER.get(module.removeprefix("jaxdesc."), set())
        if within(module, ["cli", "commands"]):
            may = {"jaxdesc.commands", *(f"jaxdesc.commands.{name}" for name in SHARED)}
        else:
            may = {"launch": {"jaxdesc.commands.cli"}, "configs": {"jaxdesc.commands.configs"}}.get(
                top, set()
            )
            assert top == "configs" or not packages & {"absl", "ml_collections"}, module
        assert taken <= may, module
        assert not packages & {"torch", "tensorflow"}, module
        assert not [name for name in inside(module) if name.startswith(("launch", "configs"))]


DRAWING = ["drawn", "explained", "plots", "style", "sweeps"]


def test_only_figures_draw_with_matplotlib_and_leave_its_global_state_alone():
    drawing = [module for module in MODULES if "matplotlib" in outside(module)]
    assert drawing == [f"jaxdesc.report.{name}" for name in DRAWING]
    for module in drawing:
        taken = IMPORTS[module]
        assert not [name for name, what in taken if "pyplot" in (name, what) or ".pyplot" in name]


def test_only_results_and_reports_write_parquet_pages_and_scalars():
    for package, names in (
        ("pyarrow", {"result"}),
        ("jinja2", {"report.page", "report.evidence"}),
        ("tensorboardX", {"report.scalars"}),
    ):
        using = {module for module in MODULES if package in outside(module)}
        assert using == {f"jaxdesc.{name}" for name in names}


def test_what_is_imported_is_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    declared = project["dependencies"] + optional["torch"] + optional["tensorboard"]
    names = {re.match(r"[\w-]+", requirement)[0] for requirement in declared}
    used = {name for module in MODULES for name in outside(module)}
    assert {DISTRIBUTIONS.get(name, name) for name in used} <= names


PROGRAM = """
import json, os, socket, sys
import jax

def refuse(*arguments):
    raise AssertionError("the network was touched")

socket.socket.connect = socket.getaddrinfo = refuse
config, environment = dict(jax.config.values), dict(os.environ)
import jaxdesc
assert jaxdesc.__all__ == [name for name in jaxdesc.__all__ if hasattr(jaxdesc, name)]
print(json.dumps({
    "packages": sorted({name.partition(".")[0] for name in sys.modules}),
    "config": {k: str(v) for k, v in jax.config.values.items() if config.get(k, v) != v},
    "environment": [k for k, v in os.environ.items() if environment.get(k) != v],
    "flags": {
        module: [flag.name for flag in flags]
        for module, flags in sys.modules["absl.flags"].FLAGS.flags_by_module_dict().items()
    },
    "parsed": sys.modules["absl.flags"].FLAGS.is_parsed(),
}))
# JAX refuses this once a backend has been started.
jax.config.update("jax_num_cpu_devices", 3)
assert jax.device_count() == 3
"""


def test_importing_the_package_does_nothing_else():
    environment = {k: v for k, v in os.environ.items() if not k.startswith("XLA")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "--no_such_flag"],
        env={**environment, "JAX_PLATFORMS": "cpu"},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    heavy = {"torch", "tensorflow", "transformers", "ml_collections", "grain", "orbax"}
    heavy |= {"tensorflow_datasets", "array_record", "matplotlib", "pyarrow", "tensorboardX"}
    assert not heavy & set(found["packages"])
    assert found["config"] == {}
    assert found["environment"] == []
    # Optax imports absl's logging, which defines its own flags; there are no others.
    assert [module for module in found["flags"] if not module.startswith("absl.")] == []
    assert not found["parsed"]
