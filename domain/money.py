"""Money as integer micro-dollars. One USDC is 1,000,000 micro-dollars, the token's own unit."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Final

from domain.errors import InvalidInput

if TYPE_CHECKING:
    from pydantic_core.core_schema import CoreSchema

DECIMALS: Final = 6
MICROS_PER_DOLLAR: Final = 10**DECIMALS
LARGEST: Final = 1_000_000_000 * MICROS_PER_DOLLAR
"""No single amount above a billion dollars: beyond it, it is a typing error or an attack."""

LONGEST_TEXT: Final = 64
_MICROS_PER_CENT: Final = 10_000
_FEW_CENTS: Final = 10 * _MICROS_PER_CENT
"""Below this, people are shown parts of a cent."""
_SMALLEST_SHOWN: Final = 100
"""Micro-dollars: people are shown four decimals at most."""
_LARGEST_DIGITS: Final = 12

_WRITTEN = re.compile(
    r"\s*\$?\s*(-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|-?\.\d+)\s*(?:usd|usdc|dollars?)?\s*", re.I
)


@dataclass(frozen=True, slots=True, order=True)
class Usd:
    """An amount in micro-dollars. Differences may be negative; parsed amounts never are."""

    micros: int

    def __post_init__(self) -> None:
        if isinstance(self.micros, bool) or not isinstance(self.micros, int):  # BSON's are Int64
            raise TypeError(f"Usd holds whole micro-dollars, not {type(self.micros).__name__}")

    @classmethod
    def __get_pydantic_core_schema__(cls, *_: object) -> CoreSchema:
        """In a document it is the number of micro-dollars (domain/mapping.py)."""
        from pydantic_core import core_schema as schema  # not loaded where nothing is stored

        stored = schema.no_info_after_validator_function(cls, schema.int_schema(strict=True))
        return schema.union_schema(
            [schema.is_instance_schema(cls), stored],
            custom_error_type="usd",
            custom_error_message="It is not a whole number of micro-dollars",
            serialization=schema.plain_serializer_function_ser_schema(lambda usd: usd.micros),
        )

    @classmethod
    def parse(cls, amount: object, field: str = "amount", *, above_zero: bool = False) -> Usd:
        """Read "5", "$5.00", "1.4 USDC", 1.4 or Decimal("1.4") as a non-negative amount.

        above_zero: refuse 0 too. Raises InvalidInput, naming `field`, for text that is no amount,
        NaN, infinities, negatives, more than 6 decimals, and more than a billion dollars.
        """
        value = _as_decimal(amount, field)
        if not value.is_finite():
            raise InvalidInput(field, f"{amount!r} is not a finite number", "Give dollars, like 5")
        if value < 0:
            least = "above 0" if above_zero else "of 0 or more"
            raise InvalidInput(field, f"{amount} is negative", f"Give dollars {least}, like 5")
        if value and value.adjusted() >= _LARGEST_DIGITS:
            raise InvalidInput(field, "it is above a billion dollars", "Give a smaller amount")
        if _decimals(value) > DECIMALS:
            raise InvalidInput(
                field, f"{amount} has more than 6 decimals", "Round it to micro-dollars"
            )
        if above_zero and not value:
            raise InvalidInput(field, "it must be above 0", "Give dollars above 0, like 5")
        micros = int(value.scaleb(DECIMALS))
        if micros > LARGEST:
            raise InvalidInput(field, "it is above a billion dollars", "Give a smaller amount")
        return cls(micros)

    def __add__(self, other: Usd) -> Usd:
        return Usd(self.micros + other.micros)

    def __sub__(self, other: Usd) -> Usd:
        return Usd(self.micros - other.micros)

    def __bool__(self) -> bool:
        return self.micros != 0

    def __str__(self) -> str:
        """The amount as people read it: `$1.40`, to the nearest cent.

        Below ten cents, a part of a cent gives it four decimals, `$0.0042`; what is too small
        even for these is `<$0.0001`. Where no micro-dollar may be lost, use `exact`.
        """
        sign, micros = ("-", -self.micros) if self.micros < 0 else ("", self.micros)
        if 0 < micros < _SMALLEST_SHOWN:
            return f"{sign}<$0.0001"
        fine = (micros + _SMALLEST_SHOWN // 2) // _SMALLEST_SHOWN
        if micros < _FEW_CENTS and fine % 100:
            return f"{sign}$0.{fine:04d}"
        cents = (micros + _MICROS_PER_CENT // 2) // _MICROS_PER_CENT
        return f"{sign}${cents // 100:,}.{cents % 100:02d}"

    def exact(self) -> str:
        """`$1.40`; more decimals only where they are not zero: `$1.400001`. `parse` reads it back.

        For what is compared, or typed in again.
        """
        sign, micros = ("-", -self.micros) if self.micros < 0 else ("", self.micros)
        whole, fraction = divmod(micros, MICROS_PER_DOLLAR)
        decimals = f"{fraction:06d}".rstrip("0").ljust(2, "0")
        return f"{sign}${whole:,}.{decimals}"

    def scaled(self, numerator: int, denominator: int) -> Usd:
        """This amount × numerator / denominator, rounded up to a micro-dollar.

        Up, because it bounds what something may cost.
        """
        return Usd(-(-self.micros * numerator // denominator))

    def whole_cents(self) -> Usd:
        """This amount, rounded up to a whole cent."""
        return Usd(-(-self.micros // CENT.micros) * CENT.micros)

    def dollars(self) -> float:
        """A number of dollars, for JSON and screens only; never to compute with."""
        return self.micros / MICROS_PER_DOLLAR


ZERO: Final = Usd(0)
CENT: Final = Usd(10_000)


def _as_decimal(amount: object, field: str) -> Decimal:
    remedy = 'Give dollars as a number or text, like 5 or "$5.00"'
    if isinstance(amount, bool) or not isinstance(amount, int | float | str | Decimal):
        raise InvalidInput(field, f"{type(amount).__name__} is not an amount", remedy)
    if isinstance(amount, str):
        written = _WRITTEN.fullmatch(amount) if len(amount) <= LONGEST_TEXT else None
        if not written:
            raise InvalidInput(field, f"{amount[:LONGEST_TEXT]!r} is not an amount", remedy)
        amount = written[1].replace(",", "")
    try:
        return Decimal(repr(amount)) if isinstance(amount, float) else Decimal(amount)
    except InvalidOperation:
        raise InvalidInput(field, f"{amount!r} is not an amount", remedy) from None


def _decimals(value: Decimal) -> int:
    """How many decimals `value` really has: 1.50 has one."""
    _, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int), "the value is finite"
    zeros = len(digits) - len("".join(map(str, digits)).rstrip("0"))
    return max(0, -exponent - zeros) if any(digits) else 0
