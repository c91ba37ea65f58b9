# Everything runs in .venv; `make demo` and `make test` need nothing but Python 3.11+ and git.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

# Seconds instead of a minute; `mrlift upscale` takes the full network unless told otherwise.
DEMO_MODEL := mrl-fast-x2-bicubic

.PHONY: demo test check viewer bench docs clean

demo: .venv/demo.done
	@mkdir -p demo-output
	@echo "Upscaling the 20 slices of samples/t1w with the fast weights ..."
	@$(BIN)/mrlift upscale samples/t1w -o demo-output/t1w_x2 --model $(DEMO_MODEL) --overwrite
	@$(BIN)/python examples/demo.py samples/t1w demo-output/t1w_x2 demo-output/comparison.png \
		$(DEMO_MODEL)
	@echo
	@echo "The derived DICOM series is in  demo-output/t1w_x2"
	@echo "The picture to look at is       demo-output/comparison.png"

test: .venv/dev.done
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: .venv/dev.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The page of `mrlift view`; needs Node 18 or newer with npm. Its tests skip without.
PAGE := src/mrlift/viewer/assets/index.html
viewer: $(PAGE)

$(PAGE): viewer/package-lock.json viewer/index.html viewer/vite.config.js $(wildcard viewer/src/*)
	cd viewer && npm ci --silent && npm run --silent build

# Needs MRLIFT_DATA: a folder with high-resolution series that were never trained on.
bench: .venv/demo.done
	$(BIN)/mrlift bench quality --scale 2

docs: .venv/docs.done
	$(BIN)/mkdocs build --strict

clean:
	rm -rf .venv demo-output site dist viewer/node_modules src/mrlift/viewer/assets

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/%.done: pyproject.toml constraints.txt $(wildcard src/mrlift/inference/*.c) | .venv/bin/python
	$(PIP) -e ".[$*]"
	@touch $@
