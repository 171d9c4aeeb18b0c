# Everything a contributor runs. Each target makes its own environment in .venv and does it again when the
# dependencies change.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test check bench soak histories calendar-histories bundle crash races schedules sql-histories mail-histories publish-kills clean

# pyright runs on node: the machine's own, else one from a wheel.
NODE := $(if $(shell command -v node),,'pyright[nodejs]')

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]' $(NODE)
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/takeback demo

test: $(STAMP)
	$(BIN)/python -m pytest $(ARGS)

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright
	$(BIN)/lint-imports

# What it costs, beside what one would use instead (docs/speed.md). QUICK=1: less of everything.
bench: $(STAMP)
	QUICK=$(QUICK) $(BIN)/python benchmarks/_run.py

# A million random steps, every sequence of up to three acts, and random work for as long as one likes. An hour.
soak: $(STAMP)
	$(BIN)/python -m pytest -m soak $(ARGS)

# Random histories of files on both engines, taken back and compared bit for bit; with foreign edits in between.
# And of events, followed by their guests' calendars. Ten minutes.
histories: $(STAMP)
	TAKEBACK_HISTORIES=$${TAKEBACK_HISTORIES:-2000} TAKEBACK_ENGINE_HISTORIES=$${TAKEBACK_ENGINE_HISTORIES:-500} \
		TAKEBACK_GUEST_HISTORIES=$${TAKEBACK_GUEST_HISTORIES:-200} $(BIN)/python -m pytest $(ARGS) \
		tests/tools/files_system/test_histories.py tests/server/engine/test_file_histories.py tests/server/engine/test_guest_histories.py

# Random histories of SQL statements on real databases, taken back and compared cell by cell. Two hours.
sql-histories: $(STAMP)
	TAKEBACK_SQL_HISTORIES=$${TAKEBACK_SQL_HISTORIES:-3000} \
		$(BIN)/python -m pytest tests/server/engine/test_sqlite_histories.py tests/server/engine/test_postgres_histories.py $(ARGS)

# Random histories of events in a folder and (a fifth as many) on Radicale, with others' edits and deaths in between, taken back to
# bytes and ETags; and all events of two libraries' tests through the tools. A quarter of an hour.
calendar-histories: $(STAMP)
	TAKEBACK_CALENDAR_HISTORIES=$${TAKEBACK_CALENDAR_HISTORIES:-1000} \
		$(BIN)/python -m pytest tests/tools/calendar/test_histories.py tests/tools/calendar/test_recurrence.py $(ARGS)

# Random histories of mail on a Maildir, Dovecot and pymap, taken back and compared; with another mail program at work. Hours.
mail-histories: $(STAMP)
	TAKEBACK_MAIL_HISTORIES=$${TAKEBACK_MAIL_HISTORIES:-2000} \
		$(BIN)/python -m pytest tests/server/engine/test_email_histories.py tests/tools/email/imap/test_histories.py $(ARGS)

# What Claude Desktop installs with a double click.
bundle: $(STAMP)
	$(BIN)/python packaging/bundle.py --out dist

# A death, a power cut, a failing disk at every single call; the everyday tests try every so manieth. Two hours.
crash: $(STAMP)
	TAKEBACK_CRASH_EVERY=$${TAKEBACK_CRASH_EVERY:-1} TAKEBACK_CRASH_KILLS=$${TAKEBACK_CRASH_KILLS:-100} \
		$(BIN)/python -m pytest tests/crash $(ARGS)

# kill -9 at every step of publishing a stage and of carrying out a plan, and of going on after that. Ten minutes.
publish-kills: $(STAMP)
	TAKEBACK_PUBLISH_KILLS=$${TAKEBACK_PUBLISH_KILLS:-0} $(BIN)/python -m pytest tests/server/engine/test_publishing_killed.py $(ARGS)

# Links that come and go (20,000 calls, 20,000 swaps under each tool), editors that save in a loop (6,000 saves of each kind on
# each engine), servers and rollbacks side by side; every day a hundredth of it. Twenty minutes.
races: $(STAMP)
	TAKEBACK_RACES=full $(BIN)/python -m pytest tests/races tests/server/engine/test_guest_faults.py $(ARGS)

# The engine in thousands of orders that a seed chooses; a third of them end in a death. Half an hour.
schedules: $(STAMP)
	TAKEBACK_SCHEDULES=$${TAKEBACK_SCHEDULES:-1000} $(BIN)/python -m pytest tests/schedules $(ARGS)

clean:
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
