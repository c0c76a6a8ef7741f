"""The services and the API of the server's tests, to be looked at from outside."""

from tests.server.conftest import api, mongo_door, services, settings

__all__ = ["api", "mongo_door", "services", "settings"]
