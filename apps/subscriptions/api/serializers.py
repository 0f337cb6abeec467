"""The JSON of users and subscriptions, in and out. What the types do not say, the services check."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from apps.subscriptions.api.fields import JSONObject, Tags, Text, TrueOrFalse, WholeNumber
from apps.subscriptions.identity import TOKEN_MAX as IDENTITY_TOKEN_MAX
from apps.subscriptions.models import Subscription, SubscriptionType, TestType
from apps.subscriptions.validation import EXTERNAL_ID_MAX, TOKEN_MAX
from automata_signal.api import StrictSerializer


class DeviceInput(StrictSerializer):
    """What is known of a device. Absent leaves a value as it is; null or an empty text clears it."""

    device_model = Text(max_length=100, required=False, allow_blank=True, allow_null=True, help_text="iPhone17,1")
    device_os = Text(max_length=50, required=False, allow_blank=True, allow_null=True, help_text="OS version, 18.2")
    device_language = Text(max_length=35, required=False, allow_blank=True, allow_null=True, help_text="BCP 47, ko-KR")
    app_version = Text(max_length=50, required=False, allow_blank=True, allow_null=True)
    sdk_version = Text(max_length=50, required=False, allow_blank=True, allow_null=True)
    country_code = Text(max_length=2, required=False, allow_blank=True, allow_null=True, help_text="ISO 3166, KR")
    test_type = WholeNumber(
        min_value=0,
        max_value=2,
        required=False,
        allow_null=True,
        help_text="0 production, 1 development, 2 ad hoc: which APNs environment the token is for",
    )


class StatusInput(DeviceInput):
    enabled = TrueOrFalse(required=False, help_text="true is status 1, false is -2 unless a code says why")
    subscription_status = WholeNumber(
        min_value=-99, max_value=1, required=False, help_text="A code of the table of statuses that the caller may set"
    )
    tags = Tags(required=False)


class RegisterInput(StatusInput):
    type = serializers.ChoiceField(SubscriptionType.choices)
    token = Text(max_length=TOKEN_MAX, help_text="Device token, registration token, e-mail address, phone number")
    external_id = Text(max_length=EXTERNAL_ID_MAX, required=False, help_text="Only with a secret key: whose it is")


class UpdateInput(StatusInput):
    token = Text(max_length=TOKEN_MAX, required=False, help_text="The new token of the same subscription")


class SubscriptionLoginInput(StrictSerializer):
    external_id = Text(max_length=EXTERNAL_ID_MAX)
    identity_token = Text(
        max_length=IDENTITY_TOKEN_MAX,
        required=False,
        allow_null=True,
        help_text="JWT (ES256) by the app server: sub = external_id, aud = application id, iat, exp within an hour",
    )


class TagsInput(StrictSerializer):
    tags = Tags()


class SubscriptionFilters(StrictSerializer):
    """Query parameters: text, so these fields convert."""

    from_text = True

    type = serializers.ChoiceField(SubscriptionType.choices, required=False)
    subscription_status = serializers.IntegerField(min_value=-99, max_value=1, required=False)
    is_subscribed = serializers.BooleanField(required=False, default=None, allow_null=True)
    external_id = serializers.CharField(max_length=EXTERNAL_ID_MAX, required=False, trim_whitespace=False)
    country_code = serializers.RegexField("^[A-Za-z]{2}$", required=False)
    test_type = serializers.ChoiceField(TestType.choices, required=False)
    created_from = serializers.DateTimeField(required=False)
    created_to = serializers.DateTimeField(required=False, help_text="Before this moment")
    last_active_from = serializers.DateTimeField(required=False)
    last_active_to = serializers.DateTimeField(required=False, help_text="Before this moment")

    def validate_country_code(self, value: str) -> str:
        return value.upper()

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in attrs.items() if value is not None}


class SubscriptionAnswer(serializers.Serializer[Subscription]):
    id = serializers.UUIDField()
    type = serializers.ChoiceField(SubscriptionType.choices)
    token = serializers.CharField(source="masked_token", help_text="Masked")
    user_id = serializers.UUIDField(allow_null=True)
    external_id = serializers.CharField(source="user.external_id", default=None, allow_null=True)
    subscription_status = serializers.IntegerField()
    status_source = serializers.CharField(help_text="Who set the status: device, provider, api, operator or system")
    is_subscribed = serializers.BooleanField()
    is_unsubscribed = serializers.BooleanField()
    has_error = serializers.BooleanField()
    error_code_range = serializers.CharField()
    device_model = serializers.CharField()
    device_os = serializers.CharField()
    device_language = serializers.CharField()
    app_version = serializers.CharField()
    sdk_version = serializers.CharField()
    country_code = serializers.CharField()
    test_type = serializers.IntegerField()
    tags = JSONObject()
    total_messages_received = serializers.IntegerField()
    total_messages_converted = serializers.IntegerField()
    token_registered_at = serializers.DateTimeField()
    subscribed_at = serializers.DateTimeField(allow_null=True)
    unsubscribed_at = serializers.DateTimeField(allow_null=True)
    last_active_at = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


class RegisteredAnswer(SubscriptionAnswer):
    handle = serializers.CharField(help_text="Keep it secret; send it as X-Subscription-Handle")
    created = serializers.BooleanField(help_text="false if the token was registered before")


class UserCreateInput(StrictSerializer):
    external_id = Text(max_length=EXTERNAL_ID_MAX)
    properties = JSONObject(required=False)
    is_test = TrueOrFalse(required=False, help_text="Whether the user is in the test group")


class UserUpdateInput(StrictSerializer):
    properties = JSONObject(required=False, help_text="Each takes the place of the one of that name; null removes it")
    is_test = TrueOrFalse(required=False, help_text="Whether the user is in the test group")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not attrs:
            raise serializers.ValidationError({"properties": ["This field is required, or is_test."]})
        return attrs


class UserFilters(StrictSerializer):
    from_text = True

    external_id = serializers.CharField(max_length=EXTERNAL_ID_MAX, required=False, trim_whitespace=False)
    is_test = serializers.BooleanField(required=False, help_text="Only of the test group, or only others")


class ExternalIdInput(StrictSerializer):
    external_id = serializers.CharField(max_length=EXTERNAL_ID_MAX, trim_whitespace=False)


class UserAnswer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    external_id = serializers.CharField()
    properties = JSONObject()
    is_test = serializers.BooleanField(help_text="Whether test sends may go to the user")
    last_active_at = serializers.DateTimeField(allow_null=True, help_text="The last login")
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


class UserExportAnswer(serializers.Serializer[Any]):
    """Upper apps add what they hold under names of their own, such as `messages`."""

    user = JSONObject()
    subscriptions = serializers.ListField(child=JSONObject())
    subscription_events = serializers.ListField(child=JSONObject())
