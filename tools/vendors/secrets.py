"""Which secret a vendor is shown: its own, by the variable that its registry entry names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from pydantic import SecretStr

from domain.errors import ConfigError, VendorUnauthorized
from domain.quotes import VendorAddress
from domain.vendor_secrets import REMEDY, is_vendor_secret

_HEADER_TEXT: Final = re.compile(r"[\x21-\x7e]{1,1024}", re.ASCII)


class VendorSecrets:
    """The secrets of the vendors, by the names of their environment variables."""

    def __init__(self, values: Mapping[str, SecretStr]) -> None:
        """Raises ConfigError for a variable that is none for a vendor's secret, and for a secret
        that no header can carry.
        """
        for name, secret in values.items():
            if not is_vendor_secret(name):
                raise ConfigError(name, "it is no variable for a vendor's secret")
            if not _HEADER_TEXT.fullmatch(secret.get_secret_value()):
                raise ConfigError(
                    name,
                    "it is not printable ASCII without spaces",
                    "Set it to the secret that its vendor gave you",
                )
        self._values = dict(values)

    def named(self, name: str | None) -> SecretStr | None:
        """The value of the variable that a registry entry names; None where it cannot be used."""
        return self._values.get(name) if name is not None and is_vendor_secret(name) else None

    def of(self, vendor: VendorAddress, call: str) -> str | None:
        """What the vendor is shown; None for one that gets no secret.

        Raises VendorUnauthorized where its entry names a variable that may not be sent, or that
        is not set.
        """
        name = vendor.secret_env
        if name is None:
            return None
        if not is_vendor_secret(name):
            raise VendorUnauthorized(
                vendor.vendor_id,
                call,
                "it was not asked: its registry entry names a variable that is no vendor's secret",
                REMEDY,
            )
        secret = self._values.get(name)
        if secret is None:
            raise VendorUnauthorized(
                vendor.vendor_id,
                call,
                f"it was not asked: its secret {name} is not set",
                f"Set {name} to the secret that this vendor gave you, and start the agent again",
            )
        return secret.get_secret_value()

    @property
    def texts(self) -> tuple[str, ...]:
        """All secrets, to blot them out of what vendors say."""
        return tuple(secret.get_secret_value() for secret in self._values.values())

    def __repr__(self) -> str:
        return f"VendorSecrets({', '.join(self._values)})"
