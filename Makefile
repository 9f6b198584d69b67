# Every target makes what it needs first; what is there already is not made again.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-slow test-smol test-faults check speed clean

# The two tasks run side by side, a core each; the second one's output waits for the first.
demo: .venv/installed
	mkdir -p results
	$(BIN)/python studies/compare.py --task shapes_safety --threads 1 > results/shapes_safety.log 2>&1 & \
	$(BIN)/python studies/compare.py --task shapes_pope --threads 1; status=$$?; \
	wait $$! || status=$$?; cat results/shapes_safety.log; exit $$status

speed: .venv/installed
	$(BIN)/python studies/speed.py --model random-40m --write docs/performance.md

test: .venv/installed
	$(BIN)/python -m pytest -n 2 --dist worksteal --ignore tests/mutation -m "not slow and not smol"

# Whole studies, killed and resumed ones, contrasts under real vocabularies.
test-slow: .venv/installed
	$(BIN)/python -m pytest -n 2 --dist worksteal --ignore tests/mutation -m slow

# The laws on a pretrained language model; skipped where `python -m interv get smol-llava` has not been run.
test-smol: .venv/installed
	$(BIN)/python -m pytest tests/smol -m smol

# Every planted fault is found by the laws that are named for it.
test-faults: .venv/installed
	$(BIN)/python -m pytest -n 2 --dist worksteal tests/mutation

check: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv results
