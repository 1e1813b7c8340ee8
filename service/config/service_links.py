"""Variables that Kubernetes sets for Services, which begin as the server's own do: told from settings, and dropped."""

import os
import re

from service.config.settings import ENV_PREFIX, SettingError, Settings

# What Kubernetes sets for a Service called resnet-serve, or resnet-serve-something, with a port called http.
_SERVICE_LINK = re.compile(
    ENV_PREFIX + r"([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_SERVICE_URL = re.compile(ENV_PREFIX + r"([A-Z0-9_]+_)?PORT")


def drop_service_links(environment: dict[str, str] | None = None) -> list[str]:
    """Remove the variables that Kubernetes injects for Services whose names begin with ours; their names.

    Any other name that is no setting raises SettingError: a misspelt setting must not be ignored.
    """
    variables = os.environ if environment is None else environment
    known = {ENV_PREFIX + name.upper() for name in Settings.model_fields}
    dropped = []
    for name in [name for name in variables if name.upper().startswith(ENV_PREFIX)]:
        if _is_service_link(name, variables[name]):
            dropped.append(name)
            del variables[name]
        elif name.upper() not in known:
            raise SettingError(
                f"unknown environment variable {name}; unset it, or use one of: {', '.join(sorted(known))}"
            )
    return dropped


def _is_service_link(name: str, value: str) -> bool:
    return bool(_SERVICE_LINK.fullmatch(name) or ("://" in value and _SERVICE_URL.fullmatch(name)))
