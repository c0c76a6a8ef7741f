"""`gpu-renter vendor` and `gpu-renter chain`: one local service alone, in the foreground."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from domain.errors import ConfigError

Port = Annotated[int | None, typer.Option(min=0, max=65535, help="0 takes any free port.")]
Folder = Annotated[
    Path | None,
    typer.Option(help="Keep its state here.  \\[default: in memory]", show_default=False),
]
LogLevel = Annotated[str, typer.Option(help="debug, info, warning or error.")]


def chain(port: Port = 8545, data_dir: Folder = None, log_level: LogLevel = "warning") -> None:
    """Run the local chain alone: an EVM chain with USDC, and $1,000 for the agent.

    [dim]$[/] gpu-renter chain --port 8545
    """
    _check_level(log_level)

    def work() -> None:
        from mock_vendor.serve import run_chain

        run_chain(port=port or 0, data_dir=data_dir, log_level=log_level)

    _serve("the local chain", "CHAIN_PORT", work)


def vendor(
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="0 takes any.  \\[default: PORT, else 4001]"),
    ] = None,
    rpc_url: Annotated[
        str | None, typer.Option(help="The chain.  \\[default: RPC_URL, else port 8545]")
    ] = None,
    data_dir: Folder = None,
    admin: Annotated[bool, typer.Option("--admin", help="Serve the test routes too.")] = False,
    log_level: LogLevel = "warning",
) -> None:
    """Run the mock vendors alone: gpu_vendor_1 and gpu_vendor_2, and their facilitator.

    FAIL_VENDOR_ID, FAIL_RATE, BASE_PRICE_PER_HOUR and GPU_VENDOR_SECRET are read from the
    environment.

    [dim]$[/] gpu-renter vendor --rpc-url http://127.0.0.1:8545
    """
    _check_level(log_level)

    def work() -> None:
        from mock_vendor.serve import run_vendor

        run_vendor(port=port, data_dir=data_dir, rpc_url=rpc_url, admin=admin, log_level=log_level)

    _serve("the mock vendor", "PORT", work)


def _serve(name: str, variable: str, work: Callable[[], None]) -> None:
    from pydantic import ValidationError

    from mock_vendor.chain.journal import FolderInUse
    from mock_vendor.serve import PortInUse, exit_quietly_on_sigterm

    exit_quietly_on_sigterm()
    logging.captureWarnings(True)
    try:
        work()
    except PortInUse as problem:
        raise ConfigError(variable, str(problem), "Use --port") from None
    except FolderInUse as problem:
        raise ConfigError("--data-dir", str(problem)) from None
    except ImportError as problem:
        raise ConfigError(
            name, f"{problem.name} is not installed", "pip install 'agentic-gpu-renter[local]'"
        ) from None
    except ValidationError as problem:
        field = str(problem.errors(include_input=False)[0]["loc"][0]).upper()
        raise ConfigError(
            field, "the mock vendor cannot use its value", "See .env.example"
        ) from None
    except KeyboardInterrupt:
        sys.exit(0)


def _check_level(level: str) -> None:
    if level.lower() not in ("debug", "info", "warning", "error"):
        raise typer.BadParameter("give debug, info, warning or error", param_hint="--log-level")
