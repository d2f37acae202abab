"""Dependencies point one way, and importing the package does nothing but define it."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("jaxdesc", "launch", "configs")

# The rooms, lowest first: each imports itself and those before it.
ROOMS = (
    *("errors", "config", "runtime", "store", "vocabulary", "images", "models", "attention"),
    *("exemplars", "similarity", "scoring", "evaluation", "result", "stages", "pipeline"),
    *("report", "scenes", "api", "benchmark", "evidence", "commands"),
)
ARITHMETIC = {"jax", "numpy", "jaxtyping"}
# What a room may import besides the standard library, if that is restricted.
PACKAGES = {
    **{room: set() for room in ("errors", "config", "vocabulary")},
    **dict.fromkeys(("attention", "similarity"), ARITHMETIC),
    "exemplars": {"numpy", "scipy", "jaxtyping"},
    **dict.fromkeys(("scoring", "evaluation"), ARITHMETIC | {"scipy"}),
    "images": ARITHMETIC
    | {"PIL", "absl", "array_record", "datasets", "grain", "pyarrow", "tensorflow_datasets"},
}
# Optional packages, or those that one module alone may know.
KNOWN = {
    "torch": ("models", "benchmark"),
    "torchax": ("models",),
    "equinox": ("models",),
    "absl": ("commands", "configs", "images"),  # Grain has flags
    "ml_collections": ("commands", "configs"),
    "matplotlib": ("report",),
    "jinja2": ("report", "evidence"),
    "tensorboardX": ("report",),
    "datasets": ("images",),
    "pyarrow": ("images", "result"),
    "tensorstore": ("store",),
    "orbax": ("models", "scenes"),
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


def imports_of(module):
    """Imports of a module, at its top or inside a function: (module, name or None)."""
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


def room(module):
    """The room of the package that a module is in; the folder of a script."""
    top, _, rest = module.partition(".")
    return rest.partition(".")[0] if top == "jaxdesc" else top


def inside(module):
    """The project's modules that a module imports."""
    return {name for name, _ in IMPORTS[module] if name.partition(".")[0] in FOLDERS}


def outside(module):
    """The installed packages that a module imports."""
    roots = {name.partition(".")[0] for name, _ in IMPORTS[module]}
    return roots - set(sys.stdlib_module_names) - set(FOLDERS)


def test_the_first_level_is_the_rooms():
    entries = {path.stem for path in (ROOT / "jaxdesc").iterdir() if path.name[0] not in "_."}
    assert entries == set(ROOMS)


def test_imports_go_one_way():
    for module in MODULES:
        if module == "jaxdesc" or not module.startswith("jaxdesc"):
            continue
        lower = ROOMS[: ROOMS.index(room(module)) + 1]
        assert {room(name) for name in inside(module)} <= {*lower, ""}, module


def test_scripts_and_configs_import_the_command_line_alone():
    for module in MODULES:
        if not module.startswith("jaxdesc"):
            taken = {room(name) for name in inside(module)}
            assert taken <= {"commands", "config", "errors", room(module)}, module


def test_nothing_goes_in_circles():
    TopologicalSorter({module: inside(module) for module in MODULES}).prepare()


def test_a_room_imports_the_packages_it_may():
    for module in MODULES:
        packages = outside(module)
        if room(module) in PACKAGES:
            assert packages <= PACKAGES[room(module)], module
        for package, rooms in KNOWN.items():
            assert package not in packages or room(module) in rooms, module
        assert "tensorflow" not in packages, module
        assert not [name for name, what in IMPORTS[module] if "pyplot" in f"{name} {what}"], module


def test_what_is_imported_is_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    extras = ("torch", "torch-target", "equinox", "datasets", "tensorboard")
    declared = project["dependencies"] + [r for extra in extras for r in optional[extra]]
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
    heavy = {
        "torch",
        "torchax",
        "equinox",
        "tensorflow",
        "transformers",
        "ml_collections",
        "grain",
        "orbax",
    }
    heavy |= {"tensorflow_datasets", "array_record", "matplotlib", "pyarrow", "tensorboardX"}
    assert not heavy & set(found["packages"])
    assert found["config"] == {}
    assert found["environment"] == []
    # Optax imports absl's logging, which defines its own flags; there are no others.
    assert [module for module in found["flags"] if not module.startswith("absl.")] == []
    assert not found["parsed"]
