# Shorthands. Each is one command that works without make, too.
PYTHON ?= python3

.PHONY: serve test check fix bench lock

serve:  ## start Sonia
	$(PYTHON) -m sonia serve

test:  ## lint, types and every test
	$(PYTHON) -m sonia.bootstrap --dev -m pytest

check:  ## lint and types only
	$(PYTHON) -m sonia.bootstrap --dev -m pytest tests/test_quality.py tests/test_architecture.py

fix:  ## format, and mend what can be mended without thinking
	$(PYTHON) -m sonia.bootstrap --dev -m ruff check --fix
	$(PYTHON) -m sonia.bootstrap --dev -m ruff format

bench:  ## print the numbers, beside a peer's
	$(PYTHON) -m sonia.bootstrap --dev -m benchmarks.startup
	$(PYTHON) -m sonia.bootstrap --dev -m benchmarks.remembering
	$(PYTHON) -m sonia.bootstrap --dev -m benchmarks.relay
	$(PYTHON) -m sonia.bootstrap --dev -m benchmarks.memory_concurrency
	$(PYTHON) -m sonia.bootstrap --dev -m benchmarks.memory_log
	$(PYTHON) -m sonia.bootstrap --dev -m benchmarks.memory_speed
	$(PYTHON) -m sonia.bootstrap --dev -m benchmarks.retrieval
	$(PYTHON) -m sonia.bootstrap --dev -m benchmarks.speech
	$(PYTHON) -m sonia.bootstrap --dev -m benchmarks.voice_to_voice
	$(PYTHON) -m sonia.bootstrap --dev -m benchmarks.interruptions
	$(PYTHON) -m sonia.bootstrap --dev -m benchmarks.tool_calls
	$(PYTHON) -m sonia.bootstrap --dev -m benchmarks.shell_risk
	$(PYTHON) -m sonia.bootstrap --dev -m benchmarks.injection
	$(PYTHON) -m sonia.bootstrap --dev -m benchmarks.acting
	$(PYTHON) -m sonia.bootstrap --dev -m benchmarks.local_model

lock:  ## lock the dependencies anew (needs uv)
	uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --quiet --output-file requirements.lock
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --quiet --constraint requirements.lock --output-file requirements-dev.lock
