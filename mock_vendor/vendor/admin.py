"""Routes for tests: switch faults, settle held payments. Off unless the settings say so."""

from typing import Any

from fastapi import FastAPI, Request
from pydantic import BaseModel

from mock_vendor.vendor.faults import Fault
from mock_vendor.vendor.incoming import check_secret
from mock_vendor.vendor.problems import VendorError
from mock_vendor.vendor.service import VendorService
from mock_vendor.vendor.settings import VendorSettings


class FaultList(BaseModel):
    """The body of PUT /admin/faults."""

    faults: list[Fault]


def add_admin_routes(app: FastAPI, settings: VendorSettings, service: VendorService) -> None:
    """Add GET, PUT and DELETE /admin/faults and POST /admin/settle-held."""

    def guard(request: Request) -> None:
        if not settings.admin:
            raise VendorError(404, "Not Found")
        check_secret(request, settings)

    def listing() -> dict[str, Any]:
        return {"faults": [f.model_dump(by_alias=True) for f in service.faults.listed()]}

    @app.get("/admin/faults")
    async def show(request: Request) -> dict[str, Any]:
        guard(request)
        return listing()

    @app.put("/admin/faults")
    async def switch(request: Request, body: FaultList) -> dict[str, Any]:
        guard(request)
        service.faults.replace(body.faults)
        return listing()

    @app.delete("/admin/faults")
    async def clear(request: Request) -> dict[str, Any]:
        guard(request)
        service.faults.replace([])
        return listing()

    @app.post("/admin/settle-held")
    async def settle_held(request: Request) -> dict[str, Any]:
        guard(request)
        return {"settled": await service.billing.settle_held()}
