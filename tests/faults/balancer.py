"""Load balancers as docs/operations.md configures them."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.documents import ROOT
from tests.service.served import DEADLINE_S, environment, free_port, is_listening, until

APACHE_MODULES = (
    *("mpm_event", "authz_core", "slotmem_shm", "proxy"),
    *("proxy_http", "proxy_balancer", "proxy_hcheck", "lbmethod_bybusyness"),  # which the document names
)
AROUND = {
    "haproxy": "global\n    maxconn 500\n    stats socket {folder}/admin.sock\n\n{config}",
    "nginx": (
        "daemon off;\npid {folder}/nginx.pid;\nerror_log stderr warn;\nuser root;\nevents {{}}\nhttp {{\n"
        "access_log off;\nclient_body_temp_path {folder};\nproxy_temp_path {folder};\nfastcgi_temp_path {folder};\n"
        "uwsgi_temp_path {folder};\nscgi_temp_path {folder};\n{config}}}\n"
    ),
    "caddy": "{{\n    admin off\n    auto_https off\n}}\n\n{config}",
    "apache2": (
        "ServerRoot /usr/lib/apache2\nServerName localhost\nDefaultRuntimeDir {folder}\nPidFile {folder}/apache2.pid\n"
        "ErrorLog /dev/stderr\nUser www-data\nGroup www-data\n"
        + "".join(f"LoadModule {name}_module modules/mod_{name}.so\n" for name in APACHE_MODULES)
        + "\n{config}"
    ),
    "squid": (
        "pid_filename {folder}/squid.pid\ncache_log /dev/null\naccess_log none\nnetdb_filename none\n"
        "pinger_enable off\nshutdown_lifetime 0 seconds\nvisible_hostname localhost\n{config}"
    ),
}
OPTIONS = {
    "haproxy": ("-db", "-f"),
    "nginx": ("-c",),
    "caddy": ("run", "--adapter", "caddyfile", "--config"),
    "apache2": ("-DFOREGROUND", "-f"),
    "squid": ("-N", "-f"),
}


def documented(kind: str) -> str:
    """The configuration that the document shows."""
    (block,) = re.findall(rf"```{kind}\n(.*?)```", (ROOT / "docs" / "operations.md").read_text(), re.DOTALL)
    return str(block)


@dataclass
class Balancer:
    """A load balancer; the ledger asks for no more than its address."""

    address: tuple[str, int]


@contextmanager
def balanced(kind: str, program: str, folder: Path, ports: list[int]) -> Iterator[Balancer]:
    """The documented load balancer in front of servers at these ports."""
    front = free_port()
    taken = dict(zip(("8080", "8001", "8002"), map(str, (front, *ports)), strict=True))
    config, replaced = re.subn(rf"\b({'|'.join(taken)})\b", lambda found: taken[found[0]], documented(kind))
    assert replaced == len(taken)
    path = folder / f"{kind}.conf"
    path.write_text(AROUND[kind].format(folder=folder, config=config))
    homes = {"XDG_CONFIG_HOME": str(folder), "XDG_DATA_HOME": str(folder)}  # where Caddy keeps what it was told
    process = subprocess.Popen([program, *OPTIONS[kind], path], env=environment(**homes))
    try:
        until(lambda: is_listening(("127.0.0.1", front)), f"{kind} to listen")
        yield Balancer(("127.0.0.1", front))
        assert process.poll() is None
    finally:
        process.terminate()
        process.wait(DEADLINE_S)
