"""`bodega`, and `python -m services.cli`.

Exit codes: 0 as promised, 1 a promise is broken, 2 the command could not begin (one line says why).
Commands import what is heavy when they run, so that `bodega --help` is quick.
"""

import sys

import typer
from typer.exceptions import TyperException

from services.cli import (
    admin,
    broker,
    certs,
    demo,
    describe,
    events,
    failpoints,
    migrate,
    probe,
    refusal,
    run,
    status,
    trail,
    up,
    verify,
)

app = typer.Typer(
    name="bodega",
    help="A gRPC-first commerce suite: whatever fails, nobody pays for nothing and every order ends.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    *(up.up, status.status, demo.demo, verify.verify, migrate.migrate, probe.probe, certs.certs),
    *(broker.nats, describe.describe),
):
    app.command()(command)
app.command(context_settings=run.TAKES_ANYTHING)(run.run)
app.add_typer(events.app, name="events")
app.add_typer(admin.app, name="admin")
app.add_typer(trail.app, name="audit")
app.add_typer(failpoints.app, name="failpoints")


@app.callback(invoke_without_command=True)
def bodega(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main() -> None:
    """Runs the command that the arguments name, and leaves with its exit code."""
    try:
        code = app(standalone_mode=False)
    except TyperException as error:
        code = _complain(error.format_message())
    except refusal.Refused as refused:
        code = _complain(str(refused))
    except (typer.Abort, KeyboardInterrupt):
        code = 130  # as shells say for a program ended by Ctrl-C
    sys.exit(code or 0)


def _complain(line: str) -> int:
    print(f"bodega: {' '.join(line.split())}", file=sys.stderr)  # noqa: T201 (what the user is told)
    return refusal.EXIT_CODE


if __name__ == "__main__":
    main()
