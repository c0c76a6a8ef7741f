"""`python -m mock_vendor chain` and `python -m mock_vendor vendor`."""

import argparse
import sys
from pathlib import Path

from mock_vendor.chain.journal import FolderInUse
from mock_vendor.serve import (
    CHAIN_PORT,
    HOST,
    PortInUse,
    exit_quietly_on_sigterm,
    run_chain,
    run_vendor,
)


def main(arguments: list[str] | None = None) -> int:
    """Run the named service until it is told to stop. Returns the exit status."""
    given = vars(_parser().parse_args(arguments))
    service = given.pop("service")
    exit_quietly_on_sigterm()
    try:
        run = run_chain if service == "chain" else run_vendor
        run(**given)
    except (PortInUse, FolderInUse) as problem:
        print(f"mock_vendor {service}: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mock_vendor", description=__doc__)
    services = parser.add_subparsers(dest="service", required=True)
    for name in ("chain", "vendor"):
        service = services.add_parser(name)
        default = CHAIN_PORT if name == "chain" else None
        service.add_argument("--port", type=int, default=default, help="0 picks a free port")
        service.add_argument("--host", default=HOST, help=f"default: {HOST}")
        service.add_argument("--data-dir", type=Path, help="keep state here; default: in memory")
        service.add_argument("--exit-with-stdin", action="store_true", help="stop at stdin's end")
        service.add_argument("--log-level", default="warning", help="default: warning")
        if name == "vendor":
            service.add_argument("--rpc-url", help="the chain; default: RPC_URL")
            service.add_argument("--admin", action="store_true", help="serve the test routes")
    return parser


if __name__ == "__main__":
    sys.exit(main())
