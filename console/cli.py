"""The verb `console`."""

from typing import Annotated

import typer

from stillpoint.cli import arguments
from stillpoint.settings import Settings


def console(
    host: Annotated[
        str | None, typer.Option(parser=arguments.host, metavar="HOST", help="Address; the setting by default.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(parser=arguments.port, metavar="PORT", help="Port; the setting by default.")
    ] = None,
) -> None:
    """Run the console, a web application to look at everything, until SIGTERM or Ctrl-C.

    On loopback without tokens it is open, as the service is; with STILLPOINT_HTTP_TOKENS a browser signs in with a token,
    and only one with the scope `admin` may check, switch, roll back, retire, export and erase.
    """
    from console.server import run_console
    from stillpoint.local.records import record_process

    settings = Settings.load()
    address, number = host or settings.console_host, settings.console_port if port is None else port
    with record_process(settings.home, "console", address=f"{address}:{number}"):
        typer.echo(f"the console is at http://{address}:{number}")
        run_console(settings, host=address, port=number)
