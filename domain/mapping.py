"""The one mapping between a value and its document: each field under its name in camelCase.

    @dataclass(frozen=True, slots=True)
    class Key(Mapped):
        id: Id
        created_at: datetime

    Key.of({"_id": "k1", "createdAt": at, "more": 1}) == Key("k1", at)
    Key("k1", at).document() == {"_id": "k1", "createdAt": at}

What a document has beside the fields is left out; what it lacks has its default. `Usd` stands there
in whole micro-dollars. A value is checked where it is read, not where code makes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Annotated, Any, ClassVar, Final, Self, cast

from pydantic import ConfigDict, Field, PlainSerializer, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel

MAPPING: Final = ConfigDict(alias_generator=to_camel)

Id = Annotated[str, Field(alias="_id")]
"""A document's own id."""
Text = Annotated[str, Field(coerce_numbers_to_str=True)]
"""A text that a person may have written as a number."""
Object = Annotated[Mapping[str, Any], PlainSerializer(dict)]
"""A document within, kept as it is."""

_adapter = cast("Callable[[type[Any]], TypeAdapter[Any]]", cache(TypeAdapter))


class Unfit(ValueError):
    """What was to become a value has a field that does not fit. It repeats nothing of it."""

    def __init__(self, value: str, field: str, problem: str) -> None:
        super().__init__(f"The document of a {value} is unusable: {field}: {problem}")
        self.field = field
        self.problem = problem


class Mapped:
    """A dataclass that `of` makes of a document, and `document` makes one of."""

    __slots__ = ()
    __pydantic_config__: ClassVar[ConfigDict] = MAPPING

    @classmethod
    def of(cls, document: Mapping[str, Any], context: object = None) -> Self:
        """The value that a document or an answer holds. Raises Unfit where a field does not fit.

        context: passed to the fields' validators.
        """
        try:
            value: Self = _adapter(cls).validate_python(document, context=context)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            field = ".".join(map(str, first["loc"]))
            problem = "it is missing" if first["type"] == "missing" else first["msg"]
            raise Unfit(cls.__name__, field, problem) from None
        return value

    def document(self, *fields: str) -> dict[str, Any]:
        """The document to store; only the named `fields` of it, if any are named."""
        document: dict[str, Any] = _adapter(type(self)).dump_python(
            self, by_alias=True, include=set(fields) or None, warnings=False
        )
        return document
