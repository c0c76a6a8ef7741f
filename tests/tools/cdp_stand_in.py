"""A stand-in for the Coinbase Developer Platform's API v2, over HTTP, with its two tokens checked.

It keeps accounts and policies, and signs typed data and bare hashes as far as the policies allow.
Sources: CDP API v2 reference ("EVM accounts", "Policy engine") and the cdp-sdk's clients.
"""

from __future__ import annotations

import base64
import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_typing import Hash32
from eth_utils.crypto import keccak
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tools.payments.cdp_api import CdpApi, CdpCredentials


async def send(api: CdpApi, method: str, path: str, body: Mapping[str, object]) -> Any:
    """A call that the product has no use for, with the SDK's tokens, over its bounded HTTP."""
    client = api.sdk.cdp_api_client
    url = client.configuration.host + path
    return (await api.ask(client.call_api(method, url, body=body))).response


KEY_ID: Final = "00000000-0000-0000-0000-000000000001"
PREFIX: Final = "/platform"
_STAMPS: Final = {"createdAt": "2026-01-01T00:00:00Z", "updatedAt": "2026-01-01T00:00:00Z"}
_COMPARE: Final = {
    "<=": lambda a, b: a <= b,
    "<": lambda a, b: a < b,
    ">=": lambda a, b: a >= b,
    ">": lambda a, b: a > b,
    "==": lambda a, b: a == b,
}


class Refused(Exception):
    """An error answer of the API."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.response = JSONResponse({"errorType": kind, "errorMessage": message}, status)


@dataclass
class CdpStandIn:
    """The service. `calls` holds (method, path) of each authenticated call, in order."""

    calls: list[tuple[str, str]] = field(default_factory=list)
    accounts: dict[str, LocalAccount] = field(default_factory=dict)
    policies: dict[str, dict[str, Any]] = field(default_factory=dict)
    account_policies: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._api_key = ed25519.Ed25519PrivateKey.generate()
        self._wallet_key = ec.generate_private_key(ec.SECP256R1())
        raw = (serialization.Encoding.Raw, serialization.PrivateFormat.Raw)
        seed = self._api_key.private_bytes(*raw, serialization.NoEncryption())
        public = self._api_key.public_key().public_bytes(
            serialization.Encoding.Raw, serialization.PublicFormat.Raw
        )
        wallet = self._wallet_key.private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        self.credentials = CdpCredentials(
            KEY_ID,
            SecretStr(base64.b64encode(seed + public).decode()),
            SecretStr(base64.b64encode(wallet).decode()),
        )

    def asgi(self) -> Starlette:
        """The service as an ASGI app, under /platform."""
        accounts, policies = PREFIX + "/v2/evm/accounts", PREFIX + "/v2/policy-engine/policies"
        handlers = [
            (accounts, "POST", self._create_account),
            (accounts + "/by-name/{name}", "GET", self._account_by_name),
            (accounts + "/{address}", "PUT", self._update_account),
            (accounts + "/{address}/sign/typed-data", "POST", self._sign_typed_data),
            (accounts + "/{address}/sign", "POST", self._sign_hash),
            (policies, "GET", self._list_policies),
            (policies, "POST", self._create_policy),
            (policies + "/{policy_id}", "GET", self._get_policy),
            (policies + "/{policy_id}", "PUT", self._update_policy),
        ]

        def endpoint(handle: Any) -> Any:
            async def serve(request: Request) -> Response:
                try:
                    body = await self._authenticated(request)
                    return JSONResponse(*handle(request, body))
                except Refused as refused:
                    return refused.response

            return serve

        return Starlette(
            routes=[Route(path, endpoint(h), methods=[method]) for path, method, h in handlers]
        )

    async def _authenticated(self, request: Request) -> dict[str, Any]:
        raw = await request.body()
        body: dict[str, Any] = json.loads(raw) if raw else {}
        uri = f"{request.method} {request.headers['host']}{request.url.path}"
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        self._verify(token, self._api_key.public_key(), "EdDSA", uri)
        if jwt.get_unverified_header(token).get("kid") != KEY_ID:
            raise Refused(401, "unauthorized", "unknown API key")
        if "/accounts" in request.url.path and request.method in ("POST", "PUT", "DELETE"):
            proof = request.headers.get("x-wallet-auth", "")
            claims = self._verify(proof, self._wallet_key.public_key(), "ES256", uri)
            canonical = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
            if body and claims.get("reqHash") != hashlib.sha256(canonical).hexdigest():
                raise Refused(401, "unauthorized", "reqHash is not of this body")
        self.calls.append((request.method, request.url.path.removeprefix(PREFIX)))
        return body

    def _verify(self, token: str, key: Any, algorithm: str, uri: str) -> Mapping[str, Any]:
        try:
            claims = jwt.decode(
                token, key, algorithms=[algorithm], options={"verify_aud": False}, leeway=5
            )
        except jwt.PyJWTError as error:
            raise Refused(401, "unauthorized", f"bad {algorithm} token: {error}") from None
        if claims.get("uris") != [uri]:
            raise Refused(401, "unauthorized", f"the token is for {claims.get('uris')}")
        return dict(claims)

    def _create_account(self, _: Request, body: dict[str, Any]) -> tuple[Any, int]:
        name = body["name"]
        if name in self.accounts:
            raise Refused(409, "already_exists", "an account has this name")
        self.accounts[name] = Account.from_key(keccak(text=f"cdp stand-in {name}"))
        return self._account(name), 201

    def _account_by_name(self, request: Request, _: dict[str, Any]) -> tuple[Any, int]:
        name = request.path_params["name"]
        if name not in self.accounts:
            raise Refused(404, "not_found", "no account has this name")
        return self._account(name), 200

    def _update_account(self, request: Request, body: dict[str, Any]) -> tuple[Any, int]:
        name, _ = self._holder(request)
        self.account_policies[name] = body["accountPolicy"]
        return self._account(name), 200

    def _sign_typed_data(self, request: Request, body: dict[str, Any]) -> tuple[Any, int]:
        name, account = self._holder(request)
        self._apply_policies(name, "signEvmTypedData", body)
        return {"signature": "0x" + account.sign_typed_data(full_message=body).signature.hex()}, 200

    def _sign_hash(self, request: Request, body: dict[str, Any]) -> tuple[Any, int]:
        name, account = self._holder(request)
        self._apply_policies(name, "signEvmHash", body)
        signed = account.unsafe_sign_hash(Hash32(bytes.fromhex(body["hash"].removeprefix("0x"))))
        return {"signature": "0x" + signed.signature.hex()}, 200

    def _list_policies(self, request: Request, _: dict[str, Any]) -> tuple[Any, int]:
        scope = request.query_params.get("scope")
        found = [p for p in self.policies.values() if scope in (None, p["scope"])]
        return {"policies": found}, 200

    def _create_policy(self, _: Request, body: dict[str, Any]) -> tuple[Any, int]:
        if body["scope"] not in ("project", "account"):
            raise Refused(400, "invalid_request", "scope is neither project nor account")
        if body["scope"] == "project" and any(
            policy["scope"] == "project" for policy in self.policies.values()
        ):
            raise Refused(409, "already_exists", "the project has a policy")
        policy = {**body, **_STAMPS, "id": str(uuid.uuid4())}
        self.policies[policy["id"]] = policy
        return policy, 201

    def _get_policy(self, request: Request, _: dict[str, Any]) -> tuple[Any, int]:
        return self._policy(request), 200

    def _update_policy(self, request: Request, body: dict[str, Any]) -> tuple[Any, int]:
        policy = self._policy(request)
        policy.update({key: body[key] for key in ("description", "rules") if key in body})
        return policy, 200

    def _policy(self, request: Request) -> dict[str, Any]:
        policy = self.policies.get(request.path_params["policy_id"])
        if policy is None:
            raise Refused(404, "not_found", "no such policy")
        return policy

    def _account(self, name: str) -> dict[str, Any]:
        policies = [p["id"] for p in self._policies_of(name)]
        return {
            "address": self.accounts[name].address,
            "name": name,
            "policies": policies,
        } | _STAMPS

    def _holder(self, request: Request) -> tuple[str, LocalAccount]:
        for name, account in self.accounts.items():
            if account.address == request.path_params["address"]:
                return name, account
        raise Refused(404, "not_found", "no such account")

    def _policies_of(self, name: str) -> list[dict[str, Any]]:
        own = self.account_policies.get(name)
        return [
            policy
            for policy in self.policies.values()
            if policy["scope"] == "project" or policy["id"] == own
        ]

    def _apply_policies(self, name: str, operation: str, body: dict[str, Any]) -> None:
        """The first rule that matches decides; with policies and no match, the answer is no."""
        for policy in self._policies_of(name):
            for rule in policy["rules"]:
                if rule["operation"] == operation and _meets(rule, body):
                    if rule["action"] == "accept":
                        break
                    raise Refused(403, "policy_violation", "rejected by policy")
            else:
                raise Refused(403, "policy_violation", "no rule of the policy accepts this")


def _meets(rule: dict[str, Any], body: dict[str, Any]) -> bool:
    return all(_holds(criterion, body) for criterion in rule.get("criteria", []))


def _holds(criterion: dict[str, Any], body: dict[str, Any]) -> bool:
    if criterion["type"] == "evmTypedDataVerifyingContract":
        return _is_in(body["domain"]["verifyingContract"], criterion)
    wanted = criterion["types"]
    primary = wanted["primaryType"]
    if body["primaryType"] != primary or body["types"][primary] != wanted["types"][primary]:
        return False
    for condition in criterion["conditions"]:
        value = body["message"].get(condition["path"])
        if "addresses" in condition:
            if not _is_in(value, condition):
                return False
        elif not _COMPARE[condition["operator"]](int(value), int(condition["value"])):
            return False
    return True


def _is_in(address: str, condition: dict[str, Any]) -> bool:
    found = address.lower() in [a.lower() for a in condition["addresses"]]
    return found if condition["operator"] == "in" else not found
