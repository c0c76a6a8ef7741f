"""`gpu-renter`: the command line. Each command lives in server/commands/; here they meet.

An error is one readable sentence with its remedy on stderr and an exit status, never a traceback
(GPU_RENTER_TRACEBACK=1 shows it all the same).
"""

from __future__ import annotations

import os
import sys
from inspect import cleandoc
from typing import Final

import typer

from domain.errors import RenterError
from server.commands import (
    audit,
    chat,
    demo,
    doctor,
    download,
    keys,
    pay,
    plan,
    prune,
    reconcile,
    registry,
    runs,
    serve,
    services,
    wallet,
    worker,
)
from server.terminal.output import EXIT_CODES, Exit, exit_for, print_problem
from server.terminal.process import Interrupted

TRACEBACK_VARIABLE: Final = "GPU_RENTER_TRACEBACK"
EXAMPLE: Final = "[dim]$[/] "
"""What an example begins with. It stays a line of its own, as its paragraph's others do."""

app = typer.Typer(
    name="gpu-renter",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EXIT_CODES,
)

FIRST: Final = "First steps"
RUNS: Final = "Runs (through a running server)"
MONEY: Final = "Money"
REST: Final = "Vendors and services"

app.command(rich_help_panel=FIRST)(demo.demo)
app.command(rich_help_panel=FIRST)(serve.serve)
app.command(rich_help_panel=FIRST)(doctor.doctor)
app.command(rich_help_panel=REST)(worker.worker)
for command in (
    chat.chat,
    plan.plan,
    runs.start,
    runs.runs,
    runs.tick,
    runs.status,
    runs.watch,
    runs.approve,
    runs.cancel,
    download.download,
):
    app.command(rich_help_panel=RUNS)(command)
app.add_typer(wallet.wallet, name="wallet", rich_help_panel=MONEY)
app.command(rich_help_panel=MONEY)(pay.pay)
app.command(rich_help_panel=MONEY)(reconcile.reconcile)
app.command(rich_help_panel=MONEY)(audit.audit)
app.command(rich_help_panel=MONEY)(prune.prune)
app.add_typer(registry.vendors, name="vendors", rich_help_panel=REST)
app.add_typer(keys.keys, name="keys", rich_help_panel=REST)
app.command(rich_help_panel=REST)(services.vendor)
app.command(rich_help_panel=REST)(services.chain)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"gpu-renter {version('agentic-gpu-renter')}")
        raise typer.Exit


@app.callback()
def root(
    _: bool = typer.Option(
        False, "--version", help="Print the version.", is_eager=True, callback=_print_version
    ),
) -> None:
    """An agent that rents GPUs, pays in USDC over x402, and recovers when a vendor fails.

    [dim]$[/] gpu-renter demo                                see it work
    [dim]$[/] gpu-renter serve --worker                      start it, page and all
    [dim]$[/] gpu-renter start "Train on an A10, under $5"   give the agent a goal
    """


def complete_helps(group: typer.Typer) -> None:
    """Have each command's help flow, and say the exit statuses but where it has its own."""
    for registered in group.registered_commands:
        written = getattr(registered.callback, "__doc__", None) or ""
        registered.help = flowing(written)
        if "Exit status:" not in written:
            registered.epilog = EXIT_CODES
    if group.registered_callback is not None:
        group.registered_callback.help = flowing(group.registered_callback.callback.__doc__ or "")
    for inner in group.registered_groups:
        if inner.typer_instance is not None:
            complete_helps(inner.typer_instance)


def flowing(docstring: str) -> str:
    """The docstring with each paragraph in one line, but for examples: it flows at the terminal's
    width, not at the source's.
    """
    paragraphs = cleandoc(docstring).split("\n\n")
    return "\n\n".join(
        written if written.startswith(EXAMPLE) else " ".join(written.split())
        for written in paragraphs
    )


complete_helps(app)


def main() -> None:
    """Run the command that the arguments name, and exit with its status."""
    _keep_this_machine_off_proxies()
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """The exit status of one command. Errors are printed here, and only here."""
    try:
        result = app(args=arguments, prog_name="gpu-renter", standalone_mode=False)
    except RenterError as error:
        _traceback_if_asked()
        print_problem(str(error))
        return exit_for(error)
    except Interrupted as interrupted:
        return interrupted.exit_status
    except (KeyboardInterrupt, typer.Abort):
        return Exit.INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # whoever read us has gone
        return Exit.FAILED
    except Exception as error:  # noqa: BLE001 -- the outermost edge
        return _other(error)
    return int(result or 0)


def _keep_this_machine_off_proxies() -> None:
    """Services on this machine are reached directly, by us and by what we start."""
    given = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    spared = ",".join(filter(None, [given, "127.0.0.1", "localhost", "::1"]))
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = spared


def _other(error: Exception) -> int:
    """A usage error of the command line, or a bug of ours."""
    show = getattr(error, "show", None)
    if show is not None:  # the usage errors of Typer know how to show themselves
        show()
        return int(getattr(error, "exit_code", Exit.USAGE))
    _traceback_if_asked()
    print_problem(
        f"Unexpected: {type(error).__name__}: {str(error)[:300]}. This is a bug: please report it "
        f"with what {TRACEBACK_VARIABLE}=1 prints"
    )
    return Exit.FAILED


def _traceback_if_asked() -> None:
    if os.environ.get(TRACEBACK_VARIABLE):
        import traceback

        traceback.print_exc()


if __name__ == "__main__":
    main()
