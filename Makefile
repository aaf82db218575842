# Every target builds .venv on first use.
PY ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: reproduce test test-portable release-test prepare exhibits results notebooks lab docs lock

$(READY): settings.ini setup.py pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PY) -m venv .venv
	$(BIN)/pip install -q -c constraints.txt -e '.[dev]'
	touch $@

reproduce: $(READY)
	$(BIN)/snn-repro reproduce

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/nbdev_test --n_workers 2 --timing
	$(BIN)/pytest -q -n 2 --dist loadfile -m 'not slow' --durations=20 tests

# Each notebook alone in a fresh kernel, and the numeric tests, as other processors compute: without vector instructions, and with a jitter of the last bits.
# (What this processor does best is what `make test` runs.) SETTINGS=default: only that one; SETTINGS=sse41+jitter: both at once, where it matters.
test-portable: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python tests/portable.py $(if $(SETTINGS),--settings $(SETTINGS))

# What takes longer: tests of seconds each (kills, several processes, compilation, whole commands); the built wheel in an
# empty environment; ten thousand mangled files; a browser; a SLURM cluster of two nodes, where SLURM is installed.
release-test: $(READY)
	OMP_NUM_THREADS=1 SNN_REPRO_RELEASE=1 $(BIN)/pytest -q -n 2 --dist loadfile -m '(release or slow) and not slurm' --durations=20 tests
	OMP_NUM_THREADS=1 SNN_REPRO_RELEASE=1 $(BIN)/pytest -q -m slurm --durations=5 tests

# After a cell was edited: library from notebooks, notebooks cleaned, previous and next at their ends, README from nbs/index.ipynb, tests.
prepare: $(READY)
	$(BIN)/nbdev_export
	$(BIN)/nbdev_clean
	$(BIN)/python tests/neighbours.py
	$(MAKE) exhibits
	$(BIN)/python tests/readme.py
	$(MAKE) test

# What `list` and `report` read instead of importing torch: after a table, a figure or a setting was changed.
exhibits: $(READY)
	$(BIN)/python -c "from snn_repro.analysis.exhibits import write_catalogue; write_catalogue('snn_repro/assets/exhibits.json')"
	$(BIN)/python -c "from snn_repro.analysis.summary import write_words; write_words('snn_repro/assets/verdicts.json')"

# The committed evidence and every notebook's outputs, from nothing but the library.
results: $(READY)
	$(BIN)/snn-repro reproduce
	rm -rf results/mini   # blocks that were packed one by one become one
	$(BIN)/snn-repro reproduce --pack results/mini
	$(MAKE) notebooks

notebooks: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/jupyter execute --inplace --kernel_name=python3 nbs/*.ipynb nbs/*/*.ipynb
	$(BIN)/nbdev_clean
	$(BIN)/python tests/readme.py

lab: $(READY)
	$(BIN)/jupyter lab nbs/index.ipynb

# The chapters and the library as a site, from what was committed: _docs/html/index.html.
docs: $(READY)
	$(BIN)/python nbs/_site/build.py

# Exact versions of a fresh resolve.
lock:
	rm -rf .lock && $(PY) -m venv .lock
	.lock/bin/pip install -q '.[dev]'
	.lock/bin/pip freeze --exclude snn-repro > constraints.txt
	rm -rf .lock
