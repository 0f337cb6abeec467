from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class MessagingConfig(AppConfig):
    name = "apps.messaging"
    verbose_name = _("Messages")

    def ready(self) -> None:
        from apps.billing.checking import register_count
        from apps.messaging.adapters.in_app import register_inbox
        from apps.messaging.breaker import wake
        from apps.messaging.charges import count_held
        from apps.messaging.content import register_preparer
        from apps.messaging.counting import count_moves
        from apps.messaging.courtesy.advertising import complete_advertising
        from apps.messaging.credentials import register_secret_checks
        from apps.messaging.email.contents import register_email
        from apps.messaging.email.shown import show_letter
        from apps.messaging.erasing import (
            count_inbox,
            count_messages,
            erase_messages,
            export_messages,
            read_messages,
        )
        from apps.messaging.figures import register_figures
        from apps.messaging.inbox.services import erase_inbox, export_inbox, inbox_deliver
        from apps.messaging.kakao.preparing import register_kakao
        from apps.messaging.media.contents import keep_media
        from apps.messaging.media.uses import register_media_user, used_by_templates
        from apps.messaging.notices import notice_send
        from apps.messaging.previews import register_preview, show_in_app
        from apps.messaging.recorders import register
        from apps.messaging.sms import register_gateways
        from apps.messaging.webhooks.figures import register_figures as register_webhook_figures
        from apps.subscriptions.erasure import (
            register_counter,
            register_eraser,
            register_exporter,
            register_reader,
        )
        from apps.subscriptions.preferences.notices import register_notifier
        from apps.tenants.channels import ChannelType
        from apps.tenants.providers import on_breaker_closed

        register_secret_checks()
        register(count_moves)
        register_count(count_held)
        register_figures()
        register_media_user(used_by_templates)
        for channel_type in ChannelType.values:
            register_preparer(channel_type, keep_media)
        register_email()
        register_gateways()
        register_kakao()
        for channel_type in ChannelType.values:
            register_preparer(channel_type, complete_advertising)  # the last: it sees the words that are sent
        register_webhook_figures()
        on_breaker_closed(wake)
        register_inbox(inbox_deliver)
        register_preview(ChannelType.EMAIL, show_letter)
        register_preview(ChannelType.IN_APP, show_in_app)
        register_eraser(erase_inbox)
        register_notifier(notice_send)
        register_eraser(erase_messages)
        register_exporter("messages", export_messages)
        register_reader("messages", read_messages)
        register_counter("messages", count_messages)
        register_counter("inbox", count_inbox)
        register_exporter("inbox", export_inbox)
