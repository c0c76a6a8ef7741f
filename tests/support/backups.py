"""A backup of a database, and its restoration: every document of every collection."""

from __future__ import annotations

from typing import Any

from tests.support.stack import FreshDatabase

Backup = dict[str, list[dict[str, Any]]]


async def back_up(database: FreshDatabase) -> Backup:
    names = await database.db.list_collection_names()
    return {name: await database.db[name].find().to_list() for name in names}


async def restore(database: FreshDatabase, backup: Backup) -> None:
    """Have what was backed up, and nothing else."""
    for name in await database.db.list_collection_names():
        await database.db[name].delete_many({})
        if documents := backup.get(name):
            await database.db[name].insert_many(documents)
