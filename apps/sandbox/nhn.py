"""The stand-in for NHN Cloud, providers.md sections 4.3 and 5.2: SMS v3.0 and KakaoTalk Bizmessage v2.3 on one port."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from apps.sandbox import gateway_codes as codes
from apps.sandbox.exchange import Answer, Request, Route
from apps.sandbox.gateway import (
    KOREA,
    Batch,
    Call,
    Gateway,
    Handler,
    Sent,
    error_shell,
    json_answer,
    load_json,
)
from apps.sandbox.gateway_behaviours import GatewayBehaviour
from apps.sandbox.nhn_errors import header, refused
from apps.sandbox.nhn_kakao import NhnKakao
from apps.sandbox.nhn_sms import NhnSms
from apps.sandbox.webhooks import Headers, Job, Post

MAX_DAYS_AHEAD = 60


@dataclass(frozen=True)
class App:
    """An app key. `service`: sms, kakao, or empty for both."""

    app_key: str
    secret_key: str
    service: str


Served = Callable[[Call, App], Answer]


class Nhn(Gateway):
    """Both products of NHN Cloud on one TLS port."""

    name = "nhn"
    registrations = (*Gateway.registrations, "templates", "profiles", "opt_out_numbers", "idempotency")

    def routes(self) -> Sequence[tuple[bytes, str, Handler]]:
        self._apps: dict[str, App] = {}
        self.sms, self.kakao = NhnSms(self), NhnKakao(self)
        return [
            *((method, path, self._served("sms", handler)) for method, path, handler in self.sms.routes()),
            *((method, path, self._served("kakao", handler)) for method, path, handler in self.kakao.routes()),
        ]

    def _served(self, service: str, handler: Served) -> Handler:
        def serve(call: Call) -> Answer:
            app = self._apps.get(call.parts[0])
            if app is None or app.service not in ("", service):
                raise refused(service, "-1001" if service == "sms" else "-1000")
            if call.header(b"x-secret-key") != app.secret_key:
                raise refused(service, "-1000" if service == "sms" else "-1001")
            if call.request.method in (b"POST", b"PUT"):
                kind = call.header(b"content-type").partition(";")[0].strip().lower()
                if kind != "application/json":
                    raise refused(service, "-9996" if service == "sms" else "4")
            return handler(call, app)

        return serve

    # for both products

    def body(self, call: Call, service: str, allowed: set[str]) -> dict[str, Any]:
        """The JSON of a request. Fields that the product does not know are refused, as mistakes of ours."""
        content = load_json(call.request.body)
        if type(content) is not dict:
            raise refused(service, "-9997" if service == "sms" else "4")
        if not content.keys() <= allowed:
            raise refused(service, "4", f"{min(content.keys() - allowed)}: unknown field")
        return content

    def due_at(self, text: Any, service: str) -> float:
        """Epoch seconds of a requestDate (yyyy-MM-dd HH:mm, Korean time, at most 60 days ahead); 0 without one."""
        if text is None or text == "":
            return 0.0
        try:
            at = datetime.strptime(text, "%Y-%m-%d %H:%M").replace(tzinfo=KOREA).timestamp()
        except (TypeError, ValueError):
            raise refused(service, "-2000" if service == "sms" else "-2027") from None
        if at < self.now() - 60:
            raise refused(service, "-2022" if service == "sms" else "-2025")
        if at > self.now() + MAX_DAYS_AHEAD * 86_400:
            raise refused(service, "-2000" if service == "sms" else "-2028")
        return at

    def post(
        self, hook: Mapping[str, Any], service: str, app_key: str, event: str, hooks: list[dict[str, Any]]
    ) -> Post:
        """A webhook of NHN: the signature is the text typed into the webhook's settings."""
        headers: Headers = (("Content-Type", "application/json;charset=UTF-8"),)
        if hook["secret"]:
            headers += (("X-Toast-Webhook-Signature", hook["secret"]),)
        body = orjson.dumps(
            {
                "hooksId": f"{secrets.token_hex(12)}", "webhookConfigId": "WH1",
                "productName": "SMS" if service == "sms" else "KakaoTalk Bizmessage", "appKey": app_key,
                "event": event, "hooks": hooks,
            }
        )  # fmt: skip
        return Post(hook["url"], event, lambda attempt: (headers, body))

    # of the gateway

    def error(self, behaviour: GatewayBehaviour) -> Answer:
        return error_shell(behaviour, header(-9999, behaviour.meaning))

    def not_found(self, request: Request) -> Answer:
        return json_answer(200, header(-9998, codes.NHN_SMS_REPLIES["-9998"]))

    def finish(self, message: Sent, batch: Batch) -> None:
        (self.kakao if batch.fields["service"] == "kakao" else self.sms).finish(message)

    def report_jobs(self, batch: Batch) -> list[Job]:
        service = batch.fields["service"]
        hook = self.hook(batch.account, service)
        if hook is None:
            return []
        product = self.kakao if service == "kakao" else self.sms
        jobs: list[Job] = []
        for messages in self.chunks(batch):
            for event, hooks in product.reported(messages, batch):
                jobs.append([self.post(hook, service, batch.account, event, hooks)])
        return jobs

    # control

    def register(self, body: Mapping[str, Any]) -> None:
        unknown = set(body) - {"app_key", "secret_key", "service"}
        if unknown:
            raise ValueError(f"unknown field: {sorted(unknown)[0]}")
        if body.get("service", "") not in ("", "sms", "kakao"):
            raise ValueError("service: sms, kakao, or empty for both")
        app = App(str(body["app_key"]), str(body["secret_key"]), body.get("service", ""))
        self._apps[app.app_key] = app

    def registered(self) -> list[dict[str, Any]]:
        return [{"app_key": app.app_key, "service": app.service} for app in self._apps.values()]

    def forget(self, what: str) -> bool:
        if what == "keys":
            self._apps.clear()
            return True
        return self.sms.forget(what) or self.kakao.forget(what) or super().forget(what)

    def control_routes(self) -> dict[tuple[str, str], Route]:
        own = {**super().control_routes(), **self.kakao.control_routes()}
        return {**own, ("POST", "/unsubscribe"): self._unsubscribe, ("POST", "/opt-out-numbers"): self._opt_out_numbers}

    def _unsubscribe(self, query: dict[str, str], body: Any) -> Any:
        """`{"number", "opt_out_number", "app_key", "enterprise"}`: somebody calls the 080 number."""
        number, opt_out_number = str(body["number"]), str(body.get("opt_out_number", "08000000000"))
        self.opt_outs.add(number)
        app_key = str(body.get("app_key", ""))
        hook = self.hook(app_key, "sms")
        if hook is not None:
            event = {
                "hookId": secrets.token_hex(12), "recipientNo": number, "unsubscribeNo": opt_out_number,
                "enterpriseName": str(body.get("enterprise", "Example")),
                "createdDateTime": datetime.fromtimestamp(self.now(), KOREA).isoformat(timespec="milliseconds"),
            }  # fmt: skip
            self.webhooks.send([[self.post(hook, "sms", app_key, "UNSUBSCRIBE", [event])]])
        return {"opt_outs": len(self.opt_outs)}

    def _opt_out_numbers(self, query: dict[str, str], body: Any) -> Any:
        """`{"numbers": [...]}`: the 080 numbers of the opt-out service; none: it is not set up."""
        self.sms.opt_out_numbers = set(map(str, body["numbers"]))
        return {"numbers": sorted(self.sms.opt_out_numbers)}
