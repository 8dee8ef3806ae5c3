"""A typed client of the HTTP service: `Client` for threads, `AsyncClient` for asyncio; needs the extra `client`."""

from stillpoint.client.client import AsyncClient, Client
from stillpoint.client.exchange import ServiceError

__all__ = ["AsyncClient", "Client", "ServiceError"]
