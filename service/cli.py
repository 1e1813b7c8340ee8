"""The command `resnet-serve`: serve (also without a sub-command), predict, check."""

import sys

from pydantic_settings import CliApp

from service.settings import Settings, check_environment


def main(arguments: list[str] | None = None) -> int:
    """Run the command; its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    injected = check_environment()
    settings = CliApp.run(Settings, cli_args=arguments)
    from service.serve import serve

    return serve(settings)
