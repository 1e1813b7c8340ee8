"""What SECURITY.md says that the processes touch is all that they do: strace sees every system call of a server."""

import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.documents import ROOT
from tests.service.served import DEADLINE_S, Served

PROFILE = json.loads((ROOT / "deploy" / "seccomp.json").read_text())
# What is tried, and done without where it is refused: by libuv, and by glibc, which then takes clone.
DISPENSABLE = {"io_uring_setup", "io_uring_enter", "clone3"}
UNIT = (ROOT / "deploy" / "systemd" / "resnet-serve.service").read_text()
# The program and the models; the machine's libraries, locales and settings; what it has, and what it allows.
READ = (
    ROOT,
    sys.prefix,
    sys.base_prefix,
    "/usr",
    "/lib",
    "/lib64",
    "/etc",
    "/proc",
    "/sys",
    "/dev/null",
    "/dev/urandom",
)


@pytest.fixture(scope="module")
def calls(require: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    """Each system call of a server that starts, answers and is scraped: its name, and its line in the trace."""
    trace = tmp_path_factory.mktemp("trace") / "trace"
    within = (require("strace"), "--follow-forks", "--quiet=all", "--signal=none", f"--output={trace}")
    with Served("--workers", "1", within=within) as served:
        digit = (ROOT / "docs" / "seven.png").read_bytes()
        for _ in range(5):
            answer = httpx.post(f"{served.ready().url}/predict", content=digit, timeout=DEADLINE_S)
            assert answer.status_code == 200
        assert served.status("/metrics") == 200
    lines = re.findall(r"^\d+ +(\w+\(.*)$", trace.read_text(errors="replace"), re.MULTILINE)
    return [(line.partition("(")[0], line) for line in lines]


def test_system_calls_are_those_that_the_unit_allows(
    require: Callable[[str], str], calls: list[tuple[str, str]]
) -> None:
    (allowed,), (denied,) = (re.findall(rf"^SystemCallFilter={sign}(@.*)$", UNIT, re.MULTILINE) for sign in ("", "~"))
    analyze = require("systemd-analyze")
    permitted = set(members(analyze, allowed)) - set(members(analyze, denied))
    assert "openat" in permitted
    assert {name for name, _ in calls} - permitted == set()


def test_system_calls_are_those_that_the_container_allows(calls: list[tuple[str, str]]) -> None:
    """By name; the image's tests run a server under the profile."""
    allowed = [rule for rule in PROFILE["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW"]
    permitted = {name for rule in allowed for name in rule["names"]}
    assert {name for name, _ in calls} - permitted <= DISPENSABLE
    families = {rule["args"][0]["value"] for rule in allowed if rule["names"] == ["socket"]}
    assert families == {socket.AF_UNIX, socket.AF_INET, socket.AF_INET6}


def test_the_container_allows_nothing_that_the_unit_denies(require: Callable[[str], str]) -> None:
    analyze = require("systemd-analyze")
    permitted = set(members(analyze, "@system-service")) - set(members(analyze, "@privileged"))
    allowed = {name for rule in PROFILE["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW" for name in rule["names"]}
    assert allowed - permitted == set()
    dangerous = {"ptrace", "mount", "bpf", "unshare", "setns", "keyctl", "process_vm_readv", "io_uring_setup", "chown"}
    assert allowed & dangerous == set()


def test_no_file_is_written(calls: list[tuple[str, str]]) -> None:
    opened = [line for name, line in calls if name in ("open", "openat", "creat")]
    assert len(opened) > 100
    written = [line for line in opened if re.search(r"O_WRONLY|O_RDWR|O_CREAT|creat\(", line)]
    assert [line for line in written if '"/proc/self/fd/2"' not in line] == []  # that is standard error, opened anew
    changing = {"unlink", "unlinkat", "rename", "renameat", "renameat2", "mkdir", "mkdirat", "link", "symlink", "chmod"}
    assert changing & {name for name, _ in calls} == set()


def test_only_the_program_its_models_and_the_machine_are_read(calls: list[tuple[str, str]]) -> None:
    opened = [re.search(r'"([^"]+)".* = \d', line) for name, line in calls if name in ("open", "openat")]
    paths = {Path(found[1]) for found in opened if found and found[1].startswith("/")}
    assert len(paths) > 100
    assert [path for path in paths if not any(path.is_relative_to(place) for place in READ)] == []


def test_one_port_is_opened_and_no_connection(calls: list[tuple[str, str]]) -> None:
    assert [line for name, line in calls if name == "connect"] == []
    assert len([line for name, line in calls if name == "bind" and "AF_INET" in line]) == 1


def members(analyze: str, group: str) -> Iterator[str]:
    """The system calls of a group, and of the groups in it."""
    text = subprocess.run([analyze, "syscall-filter", group], capture_output=True, text=True, check=True).stdout
    for name in re.findall(r"^ +([@\w-]+)$", text, re.MULTILINE):
        yield from members(analyze, name) if name.startswith("@") else [name]
