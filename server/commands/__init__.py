"""The commands of `gpu-renter`, one file each. server/cli.py puts them together.

Whatever takes long to import (LangGraph, the wallets, py-evm) is imported by the command that
needs it, when it runs: `gpu-renter --help` answers at once.
"""
