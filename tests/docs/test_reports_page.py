"""What the page about reports shows is taken by the program, and checks what the program signs."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any, get_args

import pytest

from takeback.server.engine.answers import StepTold
from takeback.server.notices.settings import KINDS
from takeback.server.notices.webhook import key_of, new_secret, signed
from takeback.server.settings import load

PAGE = Path(__file__).parents[2] / "docs" / "reports.md"
TEXT = PAGE.read_text(encoding="utf-8")


def test_the_configuration_on_the_page_is_accepted(tmp_path: Path):
    blocks = re.findall(r"^```toml\n(.*?)^```", TEXT, re.S | re.M)
    (tmp_path / "config.toml").write_text("\n".join(blocks))
    settings = load(tmp_path / "config.toml", environment={}).settings
    assert settings.notify.events == KINDS
    assert list(settings.notify.webhooks) == ["ops"]
    assert (settings.audit.configured, settings.support.address) == (True, "help@example.org")


@pytest.mark.parametrize("secret", ["words of any kind", new_secret()], ids=["words", "generated"])
def test_the_receiver_on_the_page_knows_what_is_genuine(secret: str):
    [code] = re.findall(r"^```python\n(.*?)^```", TEXT, re.S | re.M)
    page: dict[str, Any] = {}
    exec(code, page)
    body, now = b'{"type":"run_failed"}', int(time.time())
    headers = signed(key_of(secret), "id-1", now, body)
    assert page["is_genuine"](secret, headers, body)
    assert not page["is_genuine"](secret, headers, body + b" ")
    assert not page["is_genuine"](new_secret(), headers, body)
    assert not page["is_genuine"](secret, headers | {"webhook-id": "id-2"}, body)
    assert not page["is_genuine"](secret, signed(key_of(secret), "id-1", now - 1000, body), body)


def test_every_status_of_a_step_is_on_the_page_and_no_other():
    section = TEXT.split("## A task with steps")[1].split("## The report")[0]
    told = re.findall(r"^\| (\w+) \|", section, re.M)
    assert sorted(told) == sorted(get_args(StepTold.model_fields["status"].annotation))
