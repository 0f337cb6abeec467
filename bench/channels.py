"""A campaign on another channel than push, from launch until every result and event is committed.

`./run bench pipeline --channel email|sms|kakao|in_app`, and `--provider` for another one than the channel's first. The
peer's own count has to be the count of the messages that were recorded as taken by it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from apps.messaging.kakao.models import KakaoChannel, KakaoTemplate, TemplateState
from apps.messaging.services import template_create
from apps.tenants.models import Application, ChannelCredential
from apps.tenants.services import application_create, credential_create
from bench import profile, seeding
from bench.fleet import Fleet
from bench.harness import PLAIN, WARM_UP_RECIPIENTS, Bench, Run
from bench.report import Goal
from bench.standin import PROFILE, STAND_INS, TEMPLATE, TEMPLATE_TEXT, StandIn
from tools.supervisor import StackError

HTML = """<html><head><style>p { font: 16px/1.5 sans-serif } a { color: #0a58ca }</style></head><body>
<p>Hello, twenty per cent off everything until midnight.</p>
<p><a href="https://shop.example/sale/42">See the sale</a></p></body></html>"""
TEXT = "Twenty per cent off everything until midnight: shop.example/42"


@dataclass(frozen=True)
class Channel:
    """What is sent, to whom, by whom, and how fast at least."""

    name: str
    """In the API."""
    type: str
    """Of the subscriptions."""
    providers: tuple[str, ...]
    """The first unless `--provider` says another one."""
    goal: Goal
    """Messages a second, of the first provider."""
    plain: Mapping[str, Any]
    personal: Mapping[str, Any] = field(default_factory=dict)
    """The template's words on the channel."""


CHANNELS = {
    "email": Channel(
        "email",
        "Email",
        ("smtp",),
        Goal(1_000),
        {"title": "The sale begins", "body": HTML},
        {"title": "{{ name }}, the sale begins", "body": HTML.replace("Hello", "Hello {{ name }}")},
    ),
    "sms": Channel(
        "sms",
        "SMS",
        ("solapi", "twilio", "nhn_sms"),
        Goal(10_000),
        {"title": "", "body": TEXT},
        {"body": "{{ name }}: {{ points }} points, and the sale in {{ city }} begins today."},
    ),
    "kakao": Channel(
        "kakao_talk",
        "KakaoTalk",
        ("solapi_kakao", "nhn_kakao"),
        Goal(10_000),
        {"data": {"name": "Dear customer", "city": "you"}, "options": {"template_code": TEMPLATE}},
        {
            "data": {"name": '{{ name | default("Customer") }}', "city": "{{ city }}"},
            "options": {"template_code": TEMPLATE},
        },
    ),
    "in_app": Channel(
        "in_app",
        "InAppMessage",
        ("in_app",),
        Goal(20_000),
        {**PLAIN, "options": {"layout": "banner_top"}},
        {
            "title": "Hello {{ name }}",
            "body": "You have {{ points }} points, and the sale in {{ city }} begins today.",
            "data": {"plan": "{{ plan }}", "link": "shop://sale/42"},
            "options": {"layout": "banner_top"},
        },
    ),
}
"""By the name of its queues; push has its own cases (`bench.pipeline`)."""


def run(bench: Bench, part: str, add_runs: Callable[..., Run], told: Callable[[Run], str]) -> None:
    """Plain, then personalised, by one provider."""
    name, channel = bench.options.channel, CHANNELS[bench.options.channel]
    provider = bench.options.provider or channel.providers[0]
    if provider not in channel.providers:
        raise StackError(f"{provider} is no provider of {name}; there are {', '.join(channel.providers)}")
    is_first = provider == channel.providers[0]
    stand_in = STAND_INS[provider](bench.supervisor, bench.folder, provider)
    warm_up, audience = (
        _application(bench, channel, stand_in, recipients)
        for recipients in (min(WARM_UP_RECIPIENTS, bench.options.recipients), bench.options.recipients)
    )
    for case, personalised in (("plain", False), ("personalised", True)):
        case = case if is_first else f"{case}, {provider}"
        if not bench.wants(case):
            continue
        with bench.fleet(providers=stand_in) as fleet:
            send(bench, fleet, stand_in, channel, warm_up, personalised=personalised)
            runs = []
            for _ in range(bench.options.runs):
                runs.append(send(bench, fleet, stand_in, channel, audience, personalised=personalised))
                bench.say(f"{name}, {case}: {told(runs[-1])}")
        add_runs(bench, f"{part}: {name}", case, runs, goal=channel.goal if is_first else None)
        if bench.options.profile:
            campaign = {"channel": channel.name, "content": None if personalised else channel.plain}
            title = f"{name}-{case.replace(', ', '-')}"
            for place, us in profile.take(
                bench, audience, title, providers=stand_in, personalised=personalised, **campaign
            ):
                bench.report.add(f"{part}: profile of {title}", place, "CPU", us, "µs/msg")
    bench.clear_messages()


def send(
    bench: Bench, fleet: Fleet, stand_in: StandIn, channel: Channel, application: Application, *, personalised: bool
) -> Run:
    """One campaign. Raises `StackError` unless every recipient's message was taken by the peer, once."""
    before = stand_in.answered()
    content = None if personalised else channel.plain
    run = bench.send(fleet, [application], personalised=personalised, channel=channel.name, content=content)
    taken = stand_in.answered() - before if stand_in.command else _in_inboxes(bench)
    ((successful,),) = bench.sql(
        "SELECT successful_count FROM campaigns_messagecampaign WHERE application_id = %s", [application.pk]
    )
    if not run.recipients == successful == taken:
        reasons = bench.sql("SELECT error_reason, count(*) FROM messaging_message WHERE status = 'failed' GROUP BY 1")
        raise StackError(
            f"{run.recipients:,} recipients, {successful:,} successful, {taken:,} taken by the peer; failed: {reasons}"
        )
    return run


def _in_inboxes(bench: Bench) -> int:
    ((count,),) = bench.sql("SELECT count(*) FROM messaging_inboxitem")
    return int(count)


def _application(bench: Bench, channel: Channel, stand_in: StandIn, recipients: int) -> Application:
    """An application whose whole audience is `recipients` on the channel."""
    application = application_create(name=f"{channel.name} {recipients}", by="bench")
    if stand_in.command:
        credential = credential_create(
            application=application, provider=stand_in.provider, name="bench", secret=stand_in.secret(), by="bench"
        )
        if channel.name == "kakao_talk":
            _know_template(credential)
    words = {"channel": channel.name, "language": "", **channel.personal}
    template_create(application=application, created_by="bench", name="personal", body_template="-", variants=[words])
    seeding.add_subscriptions(bench.stores.database_url, application, recipients, type=channel.type)
    return application


def _know_template(credential: ChannelCredential) -> None:
    """What `kakao_sync` would have read from the provider."""
    own = {"application_id": credential.application_id}
    channel = KakaoChannel.objects.create(
        **own, credential=credential, provider=credential.provider, sender_key=PROFILE, search_id="@shop"
    )
    button = {"type": "WL", "name": "Follow it", "link_mobile": "https://shop.example/orders"}
    KakaoTemplate.objects.create(
        **own,
        channel=channel,
        code=TEMPLATE,
        name="Shipped",
        content=TEMPLATE_TEXT,
        buttons=[button],
        state=TemplateState.APPROVED,
    )
