from __future__ import annotations

import os
from pathlib import Path

import pytest

from router.domain.errors import SettingsError
from router.settings import LogFormat, LogLevel, Settings, load_settings, variables


@pytest.fixture(autouse=True)
def _no_settings_around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither the environment nor a `.env` of whoever runs the tests takes part."""
    for name in [n for n in os.environ if n.upper().startswith("ROUTER_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def refused(monkeypatch: pytest.MonkeyPatch, **variables_set: str) -> list[str]:
    for name, value in variables_set.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as error:
        load_settings()
    return str(error.value).splitlines()


def test_the_defaults_run_on_one_machine() -> None:
    """Nothing set: HTTP on the loopback, no MQTT, policies and state beside the process."""
    settings = load_settings()
    assert (settings.http.host, settings.http.port, settings.http.api_keys) == ("127.0.0.1", 8080, ())
    assert not settings.mqtt.enabled
    assert (settings.policies, settings.state_dir, settings.artefact) == (Path("policies"), Path("state"), None)
    assert (settings.log.level, settings.log.format, settings.seed) == (LogLevel.INFO, LogFormat.AUTO, None)
    assert settings.mqtt.client_id.startswith("router-")


def test_everything_is_set_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two underscores go one level down; lists are separated by commas."""
    authority = tmp_path / "ca.pem"
    authority.write_text("x")
    for name, value in {
        "ROUTER_MQTT__URL": "mqtts://broker.example:8883",
        "ROUTER_MQTT__USERNAME": "router",
        "ROUTER_MQTT__PASSWORD": "hush",
        "ROUTER_MQTT__CA_FILE": str(authority),
        "ROUTER_MQTT__CLIENT_ID": "router-7",
        "ROUTER_MQTT__GROUP": "blue",
        "ROUTER_MQTT__PREFIX": "site/llm",
        "ROUTER_MQTT__RECEIVE_MAXIMUM": "32",
        "ROUTER_HTTP__PORT": "0",
        "ROUTER_HTTP__API_KEYS": "one, two",
        "ROUTER_HTTP__ADMIN_KEYS": "three",
        "ROUTER_ADMIN_KEY": "of-a-command",
        "ROUTER_LOG__LEVEL": "debug",
        "ROUTER_LOG__FORMAT": "json",
        "ROUTER_POLICIES": "/etc/router/policies",
        "ROUTER_SEED": "7",
    }.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert settings.mqtt.enabled
    assert (settings.mqtt.url, settings.mqtt.prefix) == ("mqtts://broker.example:8883", "site/llm")
    assert settings.mqtt.password is not None
    assert settings.mqtt.password.get_secret_value() == "hush"
    assert settings.mqtt.ca_file == authority
    assert (settings.mqtt.client_id, settings.mqtt.group, settings.mqtt.receive_maximum) == ("router-7", "blue", 32)
    assert [k.get_secret_value() for k in settings.http.api_keys] == ["one", "two"]
    assert [k.get_secret_value() for k in settings.http.admin_keys] == ["three"]
    assert (settings.http.port, settings.log.level, settings.log.format) == (0, LogLevel.DEBUG, LogFormat.JSON)
    assert (settings.policies, settings.seed) == (Path("/etc/router/policies"), 7)


def test_the_environment_wins_over_the_file_and_arguments_over_both(monkeypatch: pytest.MonkeyPatch) -> None:
    """A `.env` file holds defaults; foreign variables in it do not matter."""
    Path(".env").write_text("ROUTER_HTTP__PORT=1111\nROUTER_HTTP__HOST=0.0.0.0\nROUTER_STATE_DIR=a\nOTHER=1\n")
    monkeypatch.setenv("ROUTER_HTTP__PORT", "2222")
    settings = load_settings(state_dir=Path("b"))
    assert (settings.http.port, settings.http.host, settings.state_dir) == (2222, "0.0.0.0", Path("b"))
    assert load_settings(None).http.host == "127.0.0.1"


def test_no_secret_shows() -> None:
    """Printing the settings prints no password and no key."""
    Path(".env").write_text("ROUTER_MQTT__PASSWORD=hush-1\nROUTER_HTTP__API_KEYS=hush-2,hush-3\n")
    assert "hush" not in repr(load_settings())
    assert "hush" not in str(load_settings().model_dump())


def test_every_mistake_is_told_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """All at once, by the name in the environment, with what the setting is for."""
    lines = refused(
        monkeypatch,
        ROUTER_HTTP__PORT="99999",
        ROUTER_LOG__LEVEL="loud",
        ROUTER_MQTT__RECEIVE_MAXIMUM="many",
        ROUTER_MQTT__PREFIX="a/#",
        ROUTER_ARTEFACT="nowhere.bin",
    )
    assert {line.split(":")[0] for line in lines} == {
        "ROUTER_HTTP__PORT",
        "ROUTER_LOG__LEVEL",
        "ROUTER_MQTT__RECEIVE_MAXIMUM",
        "ROUTER_MQTT__PREFIX",
        "ROUTER_ARTEFACT",
    }
    assert "ROUTER_HTTP__PORT: must be less than or equal to 65535 (Port to listen on; 0 takes a free one.)" in lines


@pytest.mark.parametrize(
    "url",
    [
        "broker:1883",
        "http://broker",
        "mqtt://",
        "mqtt://broker:x",
        "mqtt://broker/topic",
        "tcp://broker:1883",
        "mqtt://b:0",
    ],
)
def test_a_broker_address_is_mqtt_host_and_port(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Anything else is refused with the form to write."""
    (line,) = refused(monkeypatch, ROUTER_MQTT__URL=url)
    assert line.startswith("ROUTER_MQTT__URL: not an address of the form mqtt://HOST[:PORT]")


def test_a_password_in_the_address_is_refused_and_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would end up in logs; the message says where it belongs."""
    (line,) = refused(monkeypatch, ROUTER_MQTT__URL="mqtt://user:hush@broker")
    assert "ROUTER_MQTT__PASSWORD" in line
    assert "hush" not in line


def test_the_value_of_a_wrong_secret_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys written as JSON, or as nothing but commas, are refused without showing them."""
    (line,) = refused(monkeypatch, ROUTER_HTTP__API_KEYS='["hush"]')
    assert "commas between them" in line
    assert "hush" not in line
    (line,) = refused(monkeypatch, ROUTER_HTTP__API_KEYS=" , ")
    assert "admit everyone" in line


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("ROUTER_HTTP_PORT", "ROUTER_HTTP__PORT"),
        ("ROUTER_HTTP__PROT", "ROUTER_HTTP__PORT"),
        ("ROUTER_POLICIY", "ROUTER_POLICIES"),
        ("router_mqtt__usrname", "ROUTER_MQTT__USERNAME"),
    ],
)
def test_a_misspelt_variable_is_told(monkeypatch: pytest.MonkeyPatch, written: str, meant: str) -> None:
    """A setting that silently does nothing is a trap."""
    (line,) = refused(monkeypatch, **{written: "1"})
    assert line == f"{written.upper()}: no such setting, did you mean {meant}?"


def test_a_misspelt_variable_in_the_file_is_told() -> None:
    """The same in `.env`."""
    Path(".env").write_text("ROUTER_HTTP_PORT=1\n")
    with pytest.raises(SettingsError, match="did you mean ROUTER_HTTP__PORT"):
        load_settings()


def test_what_kubernetes_sets_is_not_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Service called `router` or `router-http` puts such variables into every pod."""
    for name, value in {
        "ROUTER_PORT": "tcp://10.0.0.1:8080",
        "ROUTER_HTTP_PORT": "tcp://10.0.0.1:80",
        "ROUTER_SERVICE_HOST": "10.0.0.1",
        "ROUTER_SERVICE_PORT": "8080",
        "ROUTER_HTTP_PORT_80_TCP_ADDR": "10.0.0.1",
    }.items():
        monkeypatch.setenv(name, value)
    assert load_settings() == Settings()


def test_a_group_as_a_whole_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """`ROUTER_MQTT` is a group, not a setting."""
    (line,) = refused(monkeypatch, ROUTER_MQTT="mqtt://broker")
    assert line.startswith("ROUTER_MQTT: is a group of settings")


def test_an_unreadable_file_is_told() -> None:
    """Bytes that are no text are an error about the file."""
    Path(".env").write_bytes(b"ROUTER_SEED=\xff\n")
    with pytest.raises(SettingsError, match=r"\.env: cannot be read"):
        load_settings()


def test_every_setting_says_what_it_is_for() -> None:
    """Help and errors have a sentence for each variable."""
    assert all(variables().values())
    assert {"ROUTER_MQTT__URL", "ROUTER_HTTP__API_KEYS", "ROUTER_STATE_DIR"} < set(variables())
