"""Reads and writes checkpoints, and builds nothing of them but the types that a state is made of.

LangGraph's serializer stores an object as the name of its class and its arguments, and by default
imports and calls whatever is named: whoever can write the database could run code in the process
that holds the wallet's key. In its strict mode it puts the raw arguments there instead, silently;
here such a checkpoint is refused whole, before anything of it is built.
"""

from __future__ import annotations

from typing import Any, Final

import ormsgpack
from langgraph.checkpoint.serde.jsonplus import (
    EXT_CONSTRUCTOR_KW_ARGS,
    EXT_CONSTRUCTOR_POS_ARGS,
    EXT_CONSTRUCTOR_SINGLE_ARG,
    EXT_METHOD_SINGLE_ARG,
    EXT_PYDANTIC_V2,
    JsonPlusSerializer,
)

ENCODINGS: Final = frozenset({"null", "bytes", "bytearray", "msgpack"})
"""The ones that LangGraph writes. Of those that it reads besides, `json` may hold constructors,
and `pickle` is code.
"""
TYPES: Final = frozenset(
    {
        ("builtins", "frozenset"),
        ("builtins", "set"),
        ("collections", "deque"),
        ("datetime", "date"),
        ("datetime", "datetime"),
        ("datetime", "timedelta"),
        ("datetime", "timezone"),
        ("decimal", "Decimal"),
        ("langchain_core.messages.ai", "AIMessage"),
        ("langchain_core.messages.ai", "AIMessageChunk"),
        ("langchain_core.messages.chat", "ChatMessage"),
        ("langchain_core.messages.function", "FunctionMessage"),
        ("langchain_core.messages.human", "HumanMessage"),
        ("langchain_core.messages.modifier", "RemoveMessage"),
        ("langchain_core.messages.system", "SystemMessage"),
        ("langchain_core.messages.tool", "ToolMessage"),
        ("langgraph.types", "Interrupt"),
        ("langgraph.types", "Send"),
        ("uuid", "UUID"),
    }
)
"""Module and name of every type that is built. Each is a plain value: making one runs no code of
the data's choosing. All are in LangGraph's own list of safe ones.
"""
_CONSTRUCTORS: Final = frozenset(
    {
        EXT_CONSTRUCTOR_SINGLE_ARG,
        EXT_CONSTRUCTOR_POS_ARGS,
        EXT_CONSTRUCTOR_KW_ARGS,
        EXT_PYDANTIC_V2,
    }
)
_METHODS: Final = frozenset({("datetime", "datetime", "fromisoformat")})
_LONGEST_NAME: Final = 80


class ForeignType(Exception):
    """Serialized data that holds a type which is not in `TYPES`, or cannot be read at all."""


class StrictSerializer(JsonPlusSerializer):
    """LangGraph's serializer for the types in `TYPES`."""

    def __init__(self) -> None:
        super().__init__(pickle_fallback=False, allowed_msgpack_modules=None)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """The value. Raises ForeignType."""
        try:
            encoding, content = data
            if encoding not in ENCODINGS:
                raise ForeignType(f"the encoding {_named(encoding)}")
            if encoding == "msgpack" and (foreign := _foreign_types(content)):
                raise ForeignType(foreign[0])
            return super().loads_typed((encoding, content))
        except ForeignType:
            raise
        except Exception as error:
            raise ForeignType(f"data that cannot be read ({type(error).__name__})") from error


def _foreign_types(content: bytes) -> list[str]:
    """What the data names that is not ours, at any depth. Nothing is built."""
    foreign: list[str] = []

    def look(code: int, extension: bytes) -> tuple[()]:
        parts = ormsgpack.unpackb(extension, ext_hook=look, option=ormsgpack.OPT_NON_STR_KEYS)
        module, name = parts[0], parts[1]
        constructed = code in _CONSTRUCTORS and (module, name) in TYPES
        called = code == EXT_METHOD_SINGLE_ARG and (module, name, parts[3]) in _METHODS
        if not (constructed or called):
            foreign.append(f"the type {_named(module)}.{_named(name)}")
        return ()

    ormsgpack.unpackb(content, ext_hook=look, option=ormsgpack.OPT_NON_STR_KEYS)
    return foreign


def _named(name: object) -> str:
    """A name out of the data, fit to be shown."""
    return "".join(c if c.isprintable() else "?" for c in str(name))[:_LONGEST_NAME]
