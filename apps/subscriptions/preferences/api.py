"""Preferences, consents, categories, notices and the suppression list; what SDKs may see and change of their own."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.subscriptions.api.fields import Text, TrueOrFalse, WholeNumber
from apps.subscriptions.api.serializers import ExternalIdInput, SubscriptionAnswer
from apps.subscriptions.api.subscriptions import HANDLE, OneSubscriptionView, setter_of, source_of
from apps.subscriptions.api.users import OneUserView
from apps.subscriptions.models import Subscription
from apps.subscriptions.preferences import categories, selectors
from apps.subscriptions.preferences.consents import (
    EVIDENCE_MAX,
    Choices,
    MarketingChoice,
    preferences_of,
    preferences_set,
)
from apps.subscriptions.preferences.lists import suppressions_import
from apps.subscriptions.preferences.models import (
    ConsentEventType,
    ConsentSource,
    NoticeKind,
    NoticeState,
    SuppressionReason,
)
from apps.subscriptions.preferences.notices import notice_done
from apps.subscriptions.preferences.opt_in import opt_in_ask
from apps.subscriptions.preferences.subjects import CHANNEL_OF, Subject
from apps.subscriptions.preferences.suppressing import (
    TYPES,
    address_of,
    suppression_get,
    suppression_remove,
    suppressions_add,
)
from apps.subscriptions.status import Setter
from apps.subscriptions.validation import EXTERNAL_ID_MAX, TOKEN_MAX
from apps.tenants.channels import ChannelType
from apps.tenants.scopes import SDK_SCOPE
from apps.tenants.views import SignalView
from automata_signal.api import NoInput, SignalResponse, StrictSerializer, represented, validated
from automata_signal.errors import Forbidden
from automata_signal.link_tokens import CATEGORY_MAX
from automata_signal.openapi import PAGE_PARAMETERS

TAG = ["preferences"]
SUPPRESSION_TAG = ["suppressions"]
READ, WRITE = "preferences:read", "preferences:write"
SUPPRESSION_NOTE_MAX = 200
TYPE_CHOICES = [(type_, type_) for type_ in TYPES]
"""Types of subscription whose addresses can be on the suppression list."""


# --- What a subject wants --------------------------------------------------------------------------------------------


class MarketingInput(StrictSerializer):
    given = TrueOrFalse(required=False, help_text="Consent to advertising on this channel")
    night = TrueOrFalse(required=False, help_text="Consent to advertising from 21:00 to 08:00 in Korea")
    evidence = Text(
        max_length=EVIDENCE_MAX, required=False, allow_blank=True, help_text="Version of the text that was agreed to"
    )
    given_at = serializers.DateTimeField(
        required=False, help_text="When it was given, if before now; only with a secret key"
    )


class _ByChannel(serializers.DictField):
    """Channel → something; which channels there are, the service says."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict) and len(data) > len(ChannelType.values):
            raise serializers.ValidationError(f"Must have at most {len(ChannelType.values)} channels.")
        return super().to_internal_value(data)


class PreferencesInput(StrictSerializer):
    """What is not named stays as it is."""

    marketing = _ByChannel(child=MarketingInput(), required=False, help_text="By channel, such as `email`")
    categories = _ByChannel(
        child=serializers.DictField(child=TrueOrFalse()),
        required=False,
        help_text="By channel: category's slug → whether it is wanted",
    )


class ConsentState(serializers.Serializer[Any]):
    given = serializers.BooleanField()
    given_at = serializers.DateTimeField(allow_null=True)
    withdrawn_at = serializers.DateTimeField(allow_null=True)
    evidence = serializers.CharField()
    night = serializers.BooleanField()
    night_given_at = serializers.DateTimeField(allow_null=True)
    night_withdrawn_at = serializers.DateTimeField(allow_null=True)
    night_evidence = serializers.CharField()
    source = serializers.CharField(help_text="Of the last change; empty: none was made")  # type: ignore[assignment]
    confirmed_at = serializers.DateTimeField(allow_null=True, help_text="Last told that the consent stands")
    confirm_due_at = serializers.DateTimeField(allow_null=True)


class CategoryState(serializers.Serializer[Any]):
    opted_in = serializers.BooleanField()
    is_default = serializers.BooleanField(help_text="true: nothing was chosen")


class ChannelPreferences(serializers.Serializer[Any]):
    marketing = ConsentState()
    categories = serializers.DictField(child=CategoryState())


class CategoryTexts(serializers.Serializer[Any]):
    slug = serializers.CharField()
    name_en = serializers.CharField()
    name_ko = serializers.CharField()
    description_en = serializers.CharField()
    description_ko = serializers.CharField()
    is_marketing = serializers.BooleanField()
    may_opt_out = serializers.BooleanField()


class PreferencesAnswer(serializers.Serializer[Any]):
    channels = serializers.DictField(child=ChannelPreferences())
    categories = CategoryTexts(many=True)


def _choices(given: dict[str, Any]) -> Choices:
    return Choices(
        marketing={channel: MarketingChoice(**choice) for channel, choice in given.get("marketing", {}).items()},
        categories=given.get("categories", {}),
    )


def _answered(subject: Subject) -> Response:
    return Response(represented(PreferencesAnswer, preferences_of(subject)))


_PUT: dict[str, Any] = {
    "description": (
        "What is not named stays; saying the same again changes nothing and leaves no event. Night consent needs "
        "consent, and a withdrawal ends both."
    ),
    "request": PreferencesInput,
    "responses": PreferencesAnswer,
    "tags": TAG,
}


@extend_schema_view(
    get=extend_schema(operation_id="users_preferences"), put=extend_schema(operation_id="users_set_preferences")
)
class UserPreferencesView(OneUserView):
    scopes = {"GET": READ, "PUT": WRITE}

    @extend_schema(summary="What a user wants", tags=TAG, responses=PreferencesAnswer)
    def get(self, request: Request, user_id: UUID | None = None) -> Response:
        user = self.find(user_id)
        user.application = self.application
        return _answered(Subject.of_user(user))

    @extend_schema(summary="Change what a user wants", **_PUT)
    def put(self, request: Request, user_id: UUID | None = None) -> Response:
        user = self.find(user_id)
        user.application = self.application
        choices = _choices(validated(PreferencesInput, request.data))
        preferences_set(subject=Subject.of_user(user), choices=choices, source=source_of(self.caller))
        return _answered(Subject.of_user(user))


@extend_schema_view(
    get=extend_schema(operation_id="users_preferences_by_external_id", parameters=[ExternalIdInput]),
    put=extend_schema(operation_id="users_set_preferences_by_external_id", parameters=[ExternalIdInput]),
)
class UserPreferencesByExternalIdView(UserPreferencesView):
    pass


class SubscriptionPreferencesView(OneSubscriptionView):
    scopes = {"GET": (READ, SDK_SCOPE), "PUT": (WRITE, SDK_SCOPE)}

    @extend_schema(
        operation_id="subscriptions_preferences",
        summary="What the user of a subscription wants, or the subscription itself if it has none",
        tags=TAG,
        parameters=[HANDLE],
        responses=PreferencesAnswer,
    )
    def get(self, request: Request, subscription_id: UUID) -> Response:
        return _answered(Subject.of_subscription(self.find(subscription_id)))

    @extend_schema(
        operation_id="subscriptions_set_preferences",
        summary="Change what the user of a subscription wants, or the subscription itself if it has none",
        parameters=[HANDLE],
        **_PUT,
    )
    def put(self, request: Request, subscription_id: UUID) -> Response:
        row = self.find(subscription_id)
        given = validated(PreferencesInput, request.data)
        if setter_of(self.caller) is Setter.DEVICE:
            _refuse_what_a_device_may_not(row, given)
        preferences_set(subject=Subject.of_subscription(row), choices=_choices(given), source=source_of(self.caller))
        return _answered(Subject.of_subscription(row))


def _refuse_what_a_device_may_not(row: Subscription, given: dict[str, Any]) -> None:
    """A device speaks for its own channel, since who a user is was not proved; for all, where logins are verified."""
    if any("given_at" in choice for choice in given.get("marketing", {}).values()):
        raise Forbidden("A device cannot say when a consent was given.", code="NOT_FOR_DEVICES")
    if row.application.settings.get("identity_verification", {}).get("required"):
        return
    others = {*given.get("marketing", {}), *given.get("categories", {})} - {CHANNEL_OF[row.type]}
    if others:
        raise Forbidden(
            "A device chooses for its own channel; for others, logins have to be verified (identity_verification).",
            code="NOT_FOR_DEVICES",
        )


class OptInView(OneSubscriptionView):
    scopes = {"POST": "subscriptions:write"}

    @extend_schema(
        operation_id="subscriptions_ask_to_confirm",
        summary="Ask the owner of an address to confirm it (double opt-in)",
        description=(
            "Once more for one that waits (-98), and anew for one that has ended: who unsubscribed comes back by the "
            "link that is sent. At most three times a day and once a minute (409 ASKED_TOO_OFTEN); 409 SUPPRESSED "
            "after a complaint or a hard bounce."
        ),
        tags=TAG,
        request=None,
        responses={202: SubscriptionAnswer},
    )
    def post(self, request: Request, subscription_id: UUID) -> Response:
        row = self.find(subscription_id)
        validated(NoInput, request.data)
        row = opt_in_ask(subscription=row, source=source_of(self.caller))
        return Response(represented(SubscriptionAnswer, row), status=202)


# --- Consents and their history --------------------------------------------------------------------------------------


class _AboutUserFilters(StrictSerializer):
    from_text = True

    external_id = serializers.CharField(max_length=EXTERNAL_ID_MAX, required=False, trim_whitespace=False)
    channel = serializers.ChoiceField(ChannelType.choices, required=False)


class ConsentFilters(_AboutUserFilters):
    is_given = serializers.BooleanField(required=False, default=None, allow_null=True)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in attrs.items() if value is not None}


class ConsentEventFilters(_AboutUserFilters):
    subscription_id = serializers.UUIDField(required=False)
    event_type = serializers.ChoiceField(ConsentEventType.choices, required=False)


class NoticeFilters(_AboutUserFilters):
    kind = serializers.ChoiceField(NoticeKind.choices, required=False)
    state = serializers.ChoiceField(NoticeState.choices, required=False)


class _WhoseAnswer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    user_id = serializers.UUIDField(allow_null=True)
    external_id = serializers.CharField(source="user.external_id", default=None, allow_null=True)
    subscription_id = serializers.UUIDField(allow_null=True)
    channel = serializers.ChoiceField(ChannelType.choices)


class ConsentAnswer(_WhoseAnswer):
    is_given = serializers.BooleanField()
    given_at = serializers.DateTimeField(allow_null=True)
    withdrawn_at = serializers.DateTimeField(allow_null=True)
    evidence = serializers.CharField()
    is_night_given = serializers.BooleanField()
    night_given_at = serializers.DateTimeField(allow_null=True)
    night_withdrawn_at = serializers.DateTimeField(allow_null=True)
    night_evidence = serializers.CharField()
    source = serializers.ChoiceField(ConsentSource.choices)  # type: ignore[assignment]
    confirmed_at = serializers.DateTimeField(allow_null=True)
    confirm_due_at = serializers.DateTimeField(allow_null=True)
    updated_at = serializers.DateTimeField()


class ConsentEventAnswer(_WhoseAnswer):
    category = serializers.CharField()
    event_type = serializers.ChoiceField(ConsentEventType.choices)
    source = serializers.ChoiceField(ConsentSource.choices)  # type: ignore[assignment]
    evidence = serializers.CharField()
    message_id = serializers.UUIDField(allow_null=True, help_text="Whose link was followed")
    effective_at = serializers.DateTimeField(help_text="When it was said")
    occurred_at = serializers.DateTimeField(help_text="When it was written down")


class NoticeAnswer(_WhoseAnswer):
    kind = serializers.ChoiceField(NoticeKind.choices)
    what = serializers.CharField(help_text="Type of the event that it is about")
    said_at = serializers.DateTimeField()
    due_at = serializers.DateTimeField(help_text="By when the person is to be told")
    state = serializers.ChoiceField(NoticeState.choices)
    is_to_be_sent = serializers.BooleanField(help_text="false: an operator tells, and says so")
    message_id = serializers.UUIDField(allow_null=True)
    note = serializers.CharField()
    created_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)


class NoticeDoneInput(StrictSerializer):
    note = Text(max_length=200, required=False, allow_blank=True)


class ConsentsView(SignalView):
    scopes = {"GET": READ}

    @extend_schema(
        operation_id="consents_list",
        summary="List consents to advertising",
        tags=TAG,
        parameters=[ConsentFilters, *PAGE_PARAMETERS],
        responses=ConsentAnswer(many=True),
    )
    def get(self, request: Request) -> Response:
        rows = selectors.consents_list(application=self.application, filters=self.query(ConsentFilters))
        return self.page(rows, lambda row: represented(ConsentAnswer, row))


class ConsentEventsView(SignalView):
    scopes = {"GET": READ}

    @extend_schema(
        operation_id="consent_events_list",
        summary="The history of consents and choices",
        description="Written, never changed, kept for good: the proof of a consent.",
        tags=TAG,
        parameters=[ConsentEventFilters, *PAGE_PARAMETERS],
        responses=ConsentEventAnswer(many=True),
    )
    def get(self, request: Request) -> Response:
        rows = selectors.consent_events_list(application=self.application, filters=self.query(ConsentEventFilters))
        return self.page(rows, lambda row: represented(ConsentEventAnswer, row))


class NoticesView(SignalView):
    scopes = {"GET": READ}

    @extend_schema(
        operation_id="consent_notices_list",
        summary="What people are to be told of their choices, and what they were told",
        tags=TAG,
        parameters=[NoticeFilters, *PAGE_PARAMETERS],
        responses=NoticeAnswer(many=True),
    )
    def get(self, request: Request) -> Response:
        rows = selectors.notices_list(application=self.application, filters=self.query(NoticeFilters))
        return self.page(rows, lambda row: represented(NoticeAnswer, row))


class NoticeDoneView(SignalView):
    scopes = {"POST": WRITE}

    @extend_schema(
        operation_id="consent_notices_done",
        summary="Say that a person was told in another way",
        tags=TAG,
        request=NoticeDoneInput,
        responses=NoticeAnswer,
    )
    def post(self, request: Request, notice_id: UUID) -> Response:
        given = validated(NoticeDoneInput, request.data)
        notice = notice_done(application=self.application, notice_id=notice_id, **given)
        return Response(represented(NoticeAnswer, notice))


# --- Categories ------------------------------------------------------------------------------------------------------


class CategoryChanges(StrictSerializer):
    name_en = Text(max_length=100, required=False)
    name_ko = Text(max_length=100, required=False, allow_blank=True)
    description_en = Text(max_length=300, required=False, allow_blank=True)
    description_ko = Text(max_length=300, required=False, allow_blank=True)
    is_marketing = TrueOrFalse(required=False, help_text="Advertising: consent is needed besides")
    is_default_opted_in = TrueOrFalse(required=False, help_text="Whether who has chosen nothing gets it")
    may_opt_out = TrueOrFalse(required=False, help_text="false for what everybody has to get")
    position = WholeNumber(min_value=0, max_value=10_000, required=False)


class CategoryInput(CategoryChanges):
    slug = Text(max_length=CATEGORY_MAX, help_text="a-z, 0-9, - and _; messages name it, and it never changes")
    name_en = Text(max_length=100)


class CategoryAnswer(CategoryTexts):
    id = serializers.UUIDField()
    is_default_opted_in = serializers.BooleanField()
    position = serializers.IntegerField()
    is_archived = serializers.BooleanField()
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


class CategoriesView(SignalView):
    scopes = {"GET": READ, "POST": WRITE}

    @extend_schema(
        operation_id="categories_list",
        summary="List categories in use",
        tags=TAG,
        responses=CategoryAnswer(many=True),
    )
    def get(self, request: Request) -> Response:
        self.query()
        rows = categories.categories_of(self.application)
        return SignalResponse([represented(CategoryAnswer, row) for row in rows])

    @extend_schema(
        operation_id="categories_create",
        summary="Create a category",
        description="409 SLUG_TAKEN if there is one with this slug, archived ones too.",
        tags=TAG,
        request=CategoryInput,
        responses={201: CategoryAnswer},
    )
    def post(self, request: Request) -> Response:
        row = categories.category_create(application=self.application, **validated(CategoryInput, request.data))
        return Response(represented(CategoryAnswer, row), status=201)


class CategoryView(SignalView):
    scopes = {"GET": READ, "PATCH": WRITE, "DELETE": WRITE}

    @extend_schema(operation_id="categories_read", summary="Read a category", tags=TAG, responses=CategoryAnswer)
    def get(self, request: Request, category_id: UUID) -> Response:
        row = categories.category_get(application=self.application, category_id=category_id)
        return Response(represented(CategoryAnswer, row))

    @extend_schema(
        operation_id="categories_update",
        summary="Change a category",
        tags=TAG,
        request=CategoryChanges,
        responses=CategoryAnswer,
    )
    def patch(self, request: Request, category_id: UUID) -> Response:
        row = categories.category_get(application=self.application, category_id=category_id)
        row = categories.category_update(category=row, changes=validated(CategoryChanges, request.data))
        return Response(represented(CategoryAnswer, row))

    @extend_schema(
        operation_id="categories_archive",
        summary="Archive a category",
        description="No message can name it any more. What people have chosen stays.",
        tags=TAG,
        request=None,
        responses={204: None},
    )
    def delete(self, request: Request, category_id: UUID) -> Response:
        row = categories.category_get(application=self.application, category_id=category_id)
        categories.category_archive(category=row)
        return Response(status=204)


# --- The suppression list --------------------------------------------------------------------------------------------


class SuppressionFilters(StrictSerializer):
    from_text = True

    type = serializers.ChoiceField(TYPE_CHOICES, required=False)
    reason = serializers.ChoiceField(SuppressionReason.choices, required=False)
    address = serializers.CharField(max_length=TOKEN_MAX, required=False, help_text="Whole; needs `type`")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if "address" in attrs and "type" not in attrs:
            raise serializers.ValidationError({"address": "Is looked for by its type: give `type` as well."})
        return attrs


class SuppressionInput(StrictSerializer):
    type = serializers.ChoiceField(TYPE_CHOICES)
    address = Text(max_length=TOKEN_MAX, help_text="E-mail address, or phone number in E.164 form")
    reason = serializers.ChoiceField(SuppressionReason.choices, required=False, help_text="manual unless told")
    note = Text(max_length=SUPPRESSION_NOTE_MAX, required=False, allow_blank=True)


class SuppressionRemoveInput(StrictSerializer):
    note = Text(max_length=SUPPRESSION_NOTE_MAX, help_text="Why; after a complaint at least ten characters")


class SuppressionImportInput(StrictSerializer):
    type = serializers.ChoiceField(TYPE_CHOICES, required=False)
    content = Text(max_length=3_900_000, help_text="CSV with the columns address and, if need be, type, reason, note")


class SuppressionAnswer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    type = serializers.CharField()
    address = serializers.CharField(source="masked_address", help_text="Masked")
    reason = serializers.ChoiceField(SuppressionReason.choices)
    source = serializers.ChoiceField(ConsentSource.choices)  # type: ignore[assignment]
    note = serializers.CharField()
    created_at = serializers.DateTimeField()


class _ProblemAnswer(serializers.Serializer[Any]):
    field = serializers.CharField()
    message = serializers.CharField()


class SuppressionImportAnswer(serializers.Serializer[Any]):
    added = serializers.IntegerField()
    known = serializers.IntegerField(help_text="Were on the list, or twice in the file")
    refused = serializers.IntegerField()
    problems = _ProblemAnswer(many=True)


class SuppressionsView(SignalView):
    scopes = {"GET": "suppressions:read", "POST": "suppressions:write"}

    @extend_schema(
        operation_id="suppressions_list",
        summary="List suppressed addresses, masked",
        tags=SUPPRESSION_TAG,
        parameters=[SuppressionFilters, *PAGE_PARAMETERS],
        responses=SuppressionAnswer(many=True),
    )
    def get(self, request: Request) -> Response:
        rows = selectors.suppressions_list(application=self.application, filters=self.query(SuppressionFilters))
        return self.page(rows, lambda row: represented(SuppressionAnswer, row))

    @extend_schema(
        operation_id="suppressions_add",
        summary="Add an address to the suppression list",
        description="Its subscription ends, and registering it again does not subscribe it. 200 if it was on the list.",
        tags=SUPPRESSION_TAG,
        request=SuppressionInput,
        responses={200: SuppressionAnswer, 201: SuppressionAnswer},
    )
    def post(self, request: Request) -> Response:
        given = validated(SuppressionInput, request.data)
        address = address_of(
            given["type"],
            given["address"],
            reason=given.get("reason", SuppressionReason.MANUAL),
            note=given.get("note", ""),
        )
        added = suppressions_add(
            application_id=self.application.pk,
            addresses=[address],
            source=source_of(self.caller),
            by=self.caller.label,
        )
        row = selectors.suppressions_list(application=self.application, filters={"type": address.type}).get(
            address_digest=address.digest
        )
        return Response(represented(SuppressionAnswer, row), status=201 if added else 200)


class SuppressionRemoveView(SignalView):
    scopes = {"POST": "suppressions:write"}

    @extend_schema(
        operation_id="suppressions_remove",
        summary="Take an address off the suppression list",
        description="Who did it and why is kept. It subscribes nobody.",
        tags=SUPPRESSION_TAG,
        request=SuppressionRemoveInput,
        responses={204: None},
    )
    def post(self, request: Request, suppression_id: UUID) -> Response:
        row = suppression_get(application=self.application, suppression_id=suppression_id)
        note = validated(SuppressionRemoveInput, request.data)["note"]
        suppression_remove(suppression=row, note=note, by=self.caller.label, source=source_of(self.caller))
        return Response(status=204)


class SuppressionImportView(SignalView):
    scopes = {"POST": "suppressions:write"}

    @extend_schema(
        operation_id="suppressions_import",
        summary="Add the addresses of a CSV file to the suppression list",
        tags=SUPPRESSION_TAG,
        request=SuppressionImportInput,
        responses=SuppressionImportAnswer,
    )
    def post(self, request: Request) -> Response:
        given = validated(SuppressionImportInput, request.data)
        done = suppressions_import(application=self.application, by=self.caller.label, **given)
        return Response(represented(SuppressionImportAnswer, done))
