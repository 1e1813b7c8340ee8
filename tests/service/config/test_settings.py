"""Settings: flags over environment over defaults, and nothing misspelt passes."""

import os
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from pydantic_settings import CliApp

from service.config.settings import SettingError, Settings, fit_together
from tests.service.served import run_command


def parse(monkeypatch: pytest.MonkeyPatch, *flags: str, **variables: str) -> Settings:
    for name in [name for name in os.environ if name.startswith("RESNET_SERVE_")]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return CliApp.run(Settings, cli_args=list(flags))


def test_a_flag_beats_a_variable_beats_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse(monkeypatch).max_batch_size == 0  # whatever pays
    assert parse(monkeypatch, RESNET_SERVE_MAX_BATCH_SIZE="7").max_batch_size == 7
    assert parse(monkeypatch, "--max-batch-size", "9", RESNET_SERVE_MAX_BATCH_SIZE="7").max_batch_size == 9


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--port", "70000"),
        ("--port", "http"),
        ("--workers", "-1"),
        ("--queue-capacity", "0"),
        ("--request-timeout", "0"),
        ("--engine", "abacus"),
        ("--log-level", "loud"),
        ("--max-batch-size", "100000"),
        ("--image-types", "png,doc"),
        ("--image-types", ""),
        ("--access-log", "loud"),
        ("--access-log", "1.5"),
        ("--grace", "inf"),
        ("--request-timeout", "1e300"),
        ("--keep-alive-timeout", "nan"),
        ("--fetch-timeout", "inf"),
        ("--poll-repository", "inf"),
        ("--rate-limit", "inf"),
        ("--rate-limit", "1e-12"),
        ("--host", "a..b"),
        ("--admin-host", "a" * 64 + ".example"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch, flag: str, value: str) -> None:
    name = flag.removeprefix("--").replace("-", "_")
    with pytest.raises(ValidationError, match=name):
        parse(monkeypatch, **{f"RESNET_SERVE_{name.upper()}": value})


@pytest.mark.parametrize("host", ["fe80::1%eth0", "b\u00fccher.example", "127.1", "localhost."])
def test_a_host_is_whatever_can_be_looked_up(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    assert parse(monkeypatch, "--host", host).host == host


def test_the_least_rate_that_a_refusal_advises_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError) as refused:
        parse(monkeypatch, "--rate-limit", "1e-9")
    (advised,) = re.findall(r"give (\S+) or more", str(refused.value))
    assert parse(monkeypatch, "--rate-limit", advised).rate_limit == float(advised)


def test_types_of_image_are_names_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse(monkeypatch).image_types == ("png", "jpeg", "webp", "bmp", "gif")
    assert parse(monkeypatch, RESNET_SERVE_IMAGE_TYPES="jpeg").image_types == ("jpeg",)
    assert parse(monkeypatch, "--image-types", "png, TIFF").image_types == ("png", "tiff")


@pytest.mark.parametrize(("value", "share"), [("off", None), ("errors", 0.0), ("0.01", 0.01), ("all", 1.0), ("1", 1.0)])
def test_the_access_log_has_a_share_of_what_ends_well(
    monkeypatch: pytest.MonkeyPatch, value: str, share: float | None
) -> None:
    assert parse(monkeypatch).access_log is None
    assert parse(monkeypatch, "--access-log", value).access_log == share
    assert parse(monkeypatch, RESNET_SERVE_ACCESS_LOG=value).access_log == share


CONTRADICTIONS = [
    (("--drain-delay", "30"), ("--grace", "3")),
    (("--drain-delay", "3"), ("--grace", "3")),
    (("--drain-delay", "5"), ("--grace", "6")),  # requests in flight when it is over would all be refused
    (("--max-body-bytes", "67108864"), ("--max-bytes-in-flight", "33554432")),
    (("--request-timeout", "20"), ("--max-request-timeout", "10")),
    (("--max-images-per-request", "9"), ("--queue-capacity", "8")),
]


@pytest.mark.parametrize(("one", "other"), CONTRADICTIONS, ids=lambda pair: " ".join(pair))
def test_two_settings_that_contradict_each_other_are_an_error_that_names_both(
    one: tuple[str, str], other: tuple[str, str]
) -> None:
    answer = run_command(*one, *other, COLUMNS="200")
    assert (answer.returncode, answer.stdout) == (2, "")
    assert all(" ".join(pair) in answer.stderr for pair in (one, other))
    assert "Traceback" not in answer.stderr


def test_a_grace_period_that_leaves_nothing_for_answers_is_an_error() -> None:
    answer = run_command("--grace", "1.5", COLUMNS="200")
    assert answer.returncode == 2
    assert "--grace 1.5 leaves nothing for answers: its last 1.5 s are for the end" in answer.stderr


def test_a_variable_that_is_no_json_is_named_with_what_is_wrong_in_it() -> None:
    answer = run_command(RESNET_SERVE_BATCHING='{"digits": ', COLUMNS="200")
    assert answer.returncode == 2
    assert "RESNET_SERVE_BATCHING is no JSON: Expecting value: line 1 column 12" in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize("values", ["3", "[1]", '"x"', '{"digits": 3}'])
def test_values_of_single_models_that_are_none_are_told_how_they_must_be(
    monkeypatch: pytest.MonkeyPatch, values: str
) -> None:
    example = r'must be an object such as \{"NAME": \{"max_batch_size": 8, "batch_delay": 0.002\}\}'
    with pytest.raises(ValidationError, match=example):
        parse(monkeypatch, RESNET_SERVE_BATCHING=values)


@pytest.mark.parametrize(
    ("bound", "name"),
    [
        ("max_bytes_in_flight", "max_body_bytes"),
        ("max_request_timeout", "request_timeout"),
        ("queue_capacity", "max_images_per_request"),
    ],
)
def test_a_default_gives_way_to_a_bound_that_was_chosen(bound: str, name: str) -> None:
    settings = fit_together(Settings(**{bound: 1}, _cli_parse_args=False))  # type: ignore[arg-type]
    assert getattr(settings, name) == 1


def test_a_default_that_bounds_what_was_chosen_is_named() -> None:
    with pytest.raises(SettingError, match="--request-timeout 120 is above --max-request-timeout 60"):
        fit_together(Settings(request_timeout=120, _cli_parse_args=False))


@pytest.mark.parametrize(
    ("alone", "needs"),
    [
        ({"shadow_share": 0.5}, "--shadow-share without --shadow has"),
        ({"promote_after": 10}, "--promote-after without --shadow has"),
        ({"shadow": "digits/12", "promote_agreement": 0.5}, "--promote-agreement without --promote-after has"),
        ({"admin_host": "::1"}, "--admin-host without --metrics-port or --admin-port has"),
        ({"rate_burst": 5}, "--rate-burst without --rate-limit has"),
        (
            {"tls_client_ca": Path("ca"), "metrics_port": 9000, "admin_port": 9000},
            "--metrics-port 9000 is also the --admin-port, which asks for the certificates",
        ),
    ],
)
def test_what_has_no_effect_alone_or_contradicts_another_is_refused(alone: dict[str, Any], needs: str) -> None:
    with pytest.raises(SettingError, match=needs):
        fit_together(Settings(**alone, _cli_parse_args=False))


def test_what_has_an_effect_together_is_taken() -> None:
    settings = fit_together(Settings(shadow="digits/12", promote_after=10, _cli_parse_args=False))
    assert settings.selection.shadow == ("digits", 12)
    together = {"admin_host": "::1", "metrics_port": 0, "rate_burst": 5, "rate_limit": 1.0}
    fit_together(Settings(**together, _cli_parse_args=False))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["digits", "digits/", "digits/0", "digits/new", "../1", "a/b/1", "/1"])
def test_a_shadow_is_a_model_and_a_version(name: str) -> None:
    with pytest.raises(ValidationError, match="must be a model and one of its versions"):
        Settings(shadow=name, _cli_parse_args=False)


@pytest.mark.parametrize("path", ["/", "digits", "/digits/", "//digits", "/a b", "/ü", "/.", "/..", "/a/../b", "/a?b"])
def test_a_prefix_is_a_path_that_clients_ask_for_as_it_is(path: str) -> None:
    with pytest.raises(ValidationError, match="must be a path such as /digits"):
        Settings(root_path=path, _cli_parse_args=False)
    assert Settings(root_path="/a-1/.well/..b", _cli_parse_args=False).root_path == "/a-1/.well/..b"


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("", ()),
        ("https://Example.org:443,http://example.org:80", ("https://example.org", "http://example.org")),
        ("http://example.org:8080, http://[::1]:443", ("http://example.org:8080", "http://[::1]:443")),
        ("http://my_app:3000", ("http://my_app:3000",)),
    ],
)
def test_origins_are_as_browsers_send_them(monkeypatch: pytest.MonkeyPatch, given: str, sent: tuple[str, ...]) -> None:
    assert parse(monkeypatch, RESNET_SERVE_CORS_ORIGINS=given).cors_origins == sent


@pytest.mark.parametrize("given", ["*", "null", "https://a/", "https://::", "https://a:70000", "https://a,,https://b"])
def test_what_no_browser_sends_is_no_origin(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    with pytest.raises(ValidationError, match="name each origin"):
        parse(monkeypatch, "--cors-origins", given)
