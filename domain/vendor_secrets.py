"""The names of the environment variables that hold vendors' secrets.

The registry names a variable, never a value, and whoever may write to the registry must not have
the wallet's key or another secret of the environment sent to a vendor: only names that begin with
GPU_VENDOR_SECRET can be given, and every other is refused again where the value is used.
"""

from __future__ import annotations

import re
from typing import Final

from domain.errors import InvalidInput

GPU_VENDOR_SECRET: Final = "GPU_VENDOR_SECRET"
"""The variable of the seeded vendors, which the local mock vendor serves."""
SEEDED_VENDORS: Final = ("gpu_vendor_1", "gpu_vendor_2")
"""Their ids. An entry of theirs that an earlier version stored names no variable, and means that
one; every other entry without a name gets no secret.
"""
REMEDY: Final = (
    "Register it again: gpu-renter vendors add --replace … --secret-env GPU_VENDOR_SECRET_…, the "
    "variable with the secret that this vendor gave you, or --no-secret"
)

_NAME: Final = re.compile(rf"{GPU_VENDOR_SECRET}(_[A-Z0-9][A-Z0-9_]{{0,47}})?", re.ASCII)


def is_vendor_secret(name: object) -> bool:
    """Whether an environment variable of this name is read as a vendor's secret."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def checked_secret_env(name: str) -> str:
    """The name, as a person typed it. Raises InvalidInput."""
    if is_vendor_secret(name):
        return name
    likely = re.sub(r"[^A-Z0-9]+", "_", name.upper()).strip("_")[:40] or "ACME"
    raise InvalidInput(
        "--secret-env",
        f"{name[:64]!r} is not a variable for a vendor's secret: those begin with "
        f"{GPU_VENDOR_SECRET}_, so that no other secret of the environment is ever sent to one",
        f"Name it {GPU_VENDOR_SECRET}_{likely}, and set that to the secret this vendor gave you",
    )
