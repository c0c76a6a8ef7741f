"""The addresses that the operator's commands ask: what there is, whether it adds up, what is wrong.

None moves money but what the agent has signed already: reconcile closes what the chain decided.
"""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Query

from domain.errors import DependencyDown
from domain.utterance import Utterance
from graph.planner.dry_run import Market, understand_goal, with_offers
from graph.planner.meter import MeteredReader, TokenMeter
from server.access import WhoAsks
from server.api.documented import of_get, of_post
from server.api.exact_json import ExactRoute
from server.api.report_schemas import (
    AuditAnswer,
    CheckView,
    DoctorAnswer,
    PlanAnswer,
    ReconcileAnswer,
    VendorsAnswer,
    WalletAnswer,
)
from server.api.requests import HELP, NothingMore, PlanRequest, ReconcileRequest, RunId
from server.keeper import Keeper
from server.reports.audits import audit_of, find_run
from server.reports.plan import plan_text, plan_view
from server.reports.reports import cdp_policies, reconcile_answer, vendor_view, wallet_answer
from server.wiring import now

NOBODY: Final = ""
"""The user on whose day a plan's tokens count where no key names one."""
NO_VENDOR: Final = "No vendor is registered. See: gpu-renter vendors add --help"


def report_routes(keeper: Keeper) -> APIRouter:
    router = APIRouter(prefix="/api", route_class=ExactRoute, tags=["operator"])

    @router.get("/vendors", responses=of_get())
    async def vendors(who: WhoAsks) -> VendorsAnswer:  # noqa: ARG001
        """The registered vendors: whom the agent may rent from, and what their jobs came to."""
        deps = (await keeper.services()).deps
        found = await deps.ledger.vendors.all()
        return VendorsAnswer(vendors=[vendor_view(vendor, deps.now()) for vendor in found])

    @router.post("/plan", responses=of_post())
    async def plan(request: PlanRequest, who: WhoAsks) -> PlanAnswer:
        """How a goal is understood, what is on offer, and what would be rented. Pays nothing.

        The vendors are asked for quotes, which bind nobody; no run is started. A model's calls
        count against the tokens that the key's owner has in a day.
        """
        goal = Utterance(request.goal, now())
        goal.reading.check_clear()
        deps = (await keeper.services()).deps
        meter = TokenMeter(deps, who.owner or NOBODY)
        reader = MeteredReader(deps.reader, meter)
        made = await understand_goal(reader, goal, request.budget_total)
        note = reader.by_rules_alone
        if registered := await deps.ledger.vendors.all():
            market = Market(registered, deps.vendors, deps.planner, deps.limits, meter)
            made = await with_offers(made, market, goal.text, deps.now())
        else:
            note = f"{note} {NO_VENDOR}".strip()
        text = plan_text(made, note, request.columns)
        return PlanAnswer.model_validate({**plan_view(made, note), "text": text})

    @router.get("/audit", responses=of_get(404))
    async def audit(
        who: WhoAsks, run_id: Annotated[RunId, Query(alias="runId", description=HELP["runId"])]
    ) -> AuditAnswer:
        """A run's whole journal, and whether any of it was changed since it was written."""
        ledger = (await keeper.services()).deps.ledger
        return await audit_of(ledger, who.check_sees(await find_run(ledger, run_id)))

    @router.get("/wallet", responses=of_get())
    async def wallet(who: WhoAsks) -> WalletAnswer:  # noqa: ARG001
        """The account that pays, and what it holds."""
        services = await keeper.services()
        deps, settings, policies = services.deps, services.settings, []
        if settings.wallet_mode == "cdp":
            policies = await cdp_policies(settings)
        address = deps.wallet.address
        try:
            balance = await deps.chain.balance(address)
        except DependencyDown as away:
            return wallet_answer(settings, address, None, policies, str(away))
        return wallet_answer(settings, address, balance, policies)

    @router.post("/reconcile", responses=of_post())
    async def reconcile(request: ReconcileRequest, who: WhoAsks) -> ReconcileAnswer:  # noqa: ARG001
        """Close every payment that the chain decides, and compare the ledger with the chain."""
        services = await keeper.services()
        report = await services.deps.reconciler.reconcile(full=request.full)
        return reconcile_answer(report, services.settings.network, services.deps.wallet.address)

    @router.post("/doctor", responses=of_post())
    async def doctor(request: NothingMore, who: WhoAsks) -> DoctorAnswer:  # noqa: ARG001
        """Check each thing that this server needs. Pays nothing.

        Each vendor is asked for a quote, and the model, where there is one, for a decision.
        """
        from server.doctor.checks import examine_services

        services = await keeper.services()
        checks = [
            CheckView.of(check)
            async for check in examine_services(services.settings, services.deps)
        ]
        healthy = all(check.state != "wrong" for check in checks)
        return DoctorAnswer(healthy=healthy, checks=checks)

    return router
