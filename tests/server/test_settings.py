from __future__ import annotations

import os
from pathlib import Path

import pytest

from takeback.server.settings import Settings, SettingsError, load


@pytest.fixture(autouse=True)
def _no_configuration_of_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("takeback.server.settings.default_file", lambda: tmp_path / "nowhere" / "config.toml")


def write(folder: Path, text: str) -> Path:
    file = folder / "config.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_without_any_source_every_setting_has_its_default():
    loaded = load(environment={})
    assert loaded.settings == Settings()
    assert set(loaded.origins.values()) == {"default"}
    assert loaded.file is None


def test_the_file_is_read_and_its_values_say_where_they_came_from(tmp_path: Path):
    file = write(tmp_path, "[limits]\nkeep_days = 7\n")
    loaded = load(file, environment={})
    assert loaded.settings.limits.keep_days == 7
    assert loaded.origins["limits.keep_days"] == str(file)
    assert loaded.origins["limits.object_bytes"] == "default"


def test_the_environment_overrides_the_file_and_options_override_both(tmp_path: Path):
    file = write(tmp_path, f'data = "{tmp_path}/file"\n[limits]\nkeep_days = 7\nread_bytes = 5\n')
    environment = {"TAKEBACK_DATA": f"{tmp_path}/variable", "TAKEBACK_LIMITS__KEEP_DAYS": "3"}
    loaded = load(file, data=tmp_path / "option", environment=environment)
    assert loaded.settings.data == tmp_path / "option"
    assert loaded.settings.limits.keep_days == 3
    assert loaded.settings.limits.read_bytes == 5
    assert loaded.origins["data"] == "--data"
    assert loaded.origins["limits.keep_days"] == "TAKEBACK_LIMITS__KEEP_DAYS"


def test_the_file_may_be_named_by_the_environment(tmp_path: Path):
    file = write(tmp_path, "portable_files = true\n")
    assert load(environment={"TAKEBACK_CONFIG": str(file)}).settings.portable_files


def test_paths_in_the_file_are_relative_to_the_file(tmp_path: Path):
    file = write(tmp_path, 'data = "journal"\n[workspace]\nroots = ["work", "/srv/elsewhere"]\n')
    settings = load(file, environment={}).settings
    assert settings.data == tmp_path / "journal"
    assert settings.workspace.roots == (tmp_path / "work", Path("/srv/elsewhere"))


@pytest.mark.parametrize("text", [os.pathsep.join(["/srv/a", "/srv/b"]), '["/srv/a", "/srv/b"]'])
def test_a_list_in_the_environment_is_written_like_the_path_or_as_json(text: str):
    settings = load(environment={"TAKEBACK_WORKSPACE__ROOTS": text}).settings
    assert settings.workspace.roots == (Path("/srv/a"), Path("/srv/b"))


def test_settings_of_a_family_are_taken_as_they_are(tmp_path: Path):
    file = write(tmp_path, "[tools.settings.crm]\naddress = 'https://crm.example'\n")
    assert load(file, environment={}).settings.tools.settings == {"crm": {"address": "https://crm.example"}}


@pytest.mark.parametrize(
    ("text", "key", "advice"),
    [
        ("[workspace]\nroot = ['a']\n", "workspace.root", "Did you mean workspace.roots?"),
        ("[limit]\nkeep_days = 1\n", "limit", ""),
        ("zebra = 1\n", "zebra", "docs/configuration.md"),
    ],
)
def test_an_unknown_key_is_refused_by_name_with_the_one_that_was_meant(
    tmp_path: Path, text: str, key: str, advice: str
):
    file = write(tmp_path, text)
    with pytest.raises(SettingsError) as caught:
        load(file, environment={})
    assert str(file) in caught.value.message
    assert key in caught.value.message
    assert advice in caught.value.advice


def test_broken_toml_is_refused_with_its_line(tmp_path: Path):
    file = write(tmp_path, "data = 'x'\nroots = [\n")
    with pytest.raises(SettingsError, match=r"line 2|line 3"):
        load(file, environment={})


def test_a_value_of_the_wrong_kind_is_refused_with_key_and_origin(tmp_path: Path):
    file = write(tmp_path, "[limits]\nkeep_days = 'long'\n")
    with pytest.raises(SettingsError) as caught:
        load(file, environment={})
    assert "limits.keep_days" in caught.value.message
    assert str(file) in caught.value.message
    assert "\n" not in caught.value.message


def test_a_value_of_the_wrong_kind_in_the_environment_names_the_variable():
    with pytest.raises(SettingsError, match="TAKEBACK_LIMITS__KEEP_DAYS"):
        load(environment={"TAKEBACK_LIMITS__KEEP_DAYS": "soon"})


def test_a_misspelt_variable_of_a_section_is_refused():
    with pytest.raises(SettingsError, match="TAKEBACK_LIMITS__KEEPDAYS") as caught:
        load(environment={"TAKEBACK_LIMITS__KEEPDAYS": "1"})
    assert caught.value.advice == "Did you mean TAKEBACK_LIMITS__KEEP_DAYS?"


def test_other_variables_with_the_prefix_are_reported_but_not_refused():
    assert load(environment={"TAKEBACK_DATTA": "/x", "HOME": "/root"}).unknown_variables == ("TAKEBACK_DATTA",)


def test_a_file_that_is_named_but_missing_is_refused(tmp_path: Path):
    with pytest.raises(SettingsError, match="There is no configuration file"):
        load(tmp_path / "absent.toml", environment={})


def test_a_file_that_is_not_text_is_refused(tmp_path: Path):
    file = tmp_path / "config.toml"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="not UTF-8"):
        load(file, environment={})


def test_settings_made_by_hand_do_not_look_at_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TAKEBACK_PORTABLE_FILES", "true")
    assert not Settings().portable_files
    assert load().settings.portable_files
