"""What administrators and operators do over HTTP (`/admin`), and users with their own API keys (`/auth/keys`).

The routes read bodies and show rows; `auth.administration` decides who may do what.
"""

from fastapi import APIRouter

from auth.administration import Administration
from gateway.access import Access
from gateway.administration import audit, clients, keys, tenants, users


def router(administration: Administration, access: Access) -> APIRouter:
    """All the routes; every one of them needs a principal."""
    routes = APIRouter()
    for part in (tenants, users, keys, clients, audit):
        routes.include_router(part.router(administration, access))
    return routes
