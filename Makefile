# make install   everything, pinned, into .venv
# make demo      the offline playground, and questions to it
# make test      the whole test suite
# make check     lint and types
# make bench     the numbers of benchmarks/first_light.py

PYTHON ?= python3
BIN := .venv/bin

.PHONY: install demo test check bench clean

install: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one with make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,postgres,s3]'
	$(BIN)/python -m pip check
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m compileall -q shiftql storage tasks flows deployments
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/shiftql parse -c 'SELECT name FROM models' > /dev/null
	touch $@

demo: install
	$(BIN)/shiftql playground playground --size small
	$(BIN)/shiftql examples/first_light.shiftql

test: install
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist worksteal

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: install
	$(BIN)/python benchmarks/first_light.py

clean:
	-$(BIN)/shiftql down
	rm -rf .venv playground build *.egg-info
