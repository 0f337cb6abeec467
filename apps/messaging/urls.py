from django.urls import path

from apps.messaging.api import chains, messages, receipts, sms, templates
from apps.messaging.inbox import api as in_app
from apps.messaging.kakao import api as kakao
from apps.messaging.media import api as media
from apps.messaging.webhooks import api as webhooks

urlpatterns = [
    path("templates", templates.TemplatesView.as_view()),
    path("templates/preview", templates.DraftPreviewView.as_view()),
    path("templates/<uuid:template_id>", templates.TemplateView.as_view()),
    path("templates/<uuid:template_id>/versions", templates.TemplateVersionsView.as_view()),
    path("templates/<uuid:template_id>/preview", templates.TemplatePreviewView.as_view()),
    path("messages", messages.MessagesView.as_view()),
    path("messages/failures", messages.FailuresView.as_view()),
    path("messages/sms-parts", sms.SmsPartsView.as_view()),
    path("messages/requeue", messages.RequeuesView.as_view()),
    path("messages/requeues/<uuid:requeue_id>", messages.RequeueView.as_view()),
    path("messages/<uuid:message_id>", messages.MessageView.as_view()),
    path("messages/<uuid:message_id>/events", messages.MessageEventsView.as_view()),
    path("messages/<uuid:message_id>/conversation", chains.ConversationView.as_view()),
    path("messages/<uuid:message_id>/cancel", messages.MessageCancelView.as_view()),
    path("messages/<uuid:message_id>/requeue", messages.MessageRequeueView.as_view()),
    path("kakao/channels", kakao.KakaoChannelsView.as_view()),
    path("kakao/sync", kakao.KakaoSyncView.as_view()),
    path("kakao/templates", kakao.KakaoTemplatesView.as_view()),
    path("kakao/templates/<uuid:kakao_template_id>", kakao.KakaoTemplateView.as_view()),
    path("kakao/templates/<uuid:kakao_template_id>/inspection", kakao.KakaoInspectionView.as_view()),
    path("receipts", receipts.ReceiptsView.as_view()),
    path("media", media.MediaView.as_view()),
    path("media/<uuid:media_id>", media.MediaFileView.as_view()),
    path("media/<uuid:media_id>/variants", media.MediaVariantsView.as_view()),
    path("media/<uuid:media_id>/links", media.MediaLinksView.as_view()),
    path("webhooks", webhooks.WebhooksView.as_view()),
    path("webhooks/<uuid:webhook_id>", webhooks.WebhookView.as_view()),
    path("webhooks/<uuid:webhook_id>/rotate-secret", webhooks.RotateSecretView.as_view()),
    path("webhooks/<uuid:webhook_id>/test", webhooks.TestView.as_view()),
    path("webhooks/<uuid:webhook_id>/replay", webhooks.ReplayView.as_view()),
    path("webhooks/<uuid:webhook_id>/deliveries", webhooks.DeliveriesView.as_view()),
    path("webhooks/<uuid:webhook_id>/deliveries/<uuid:delivery_id>/replay", webhooks.DeliveryReplayView.as_view()),
    path("in-app/inbox", in_app.InboxView.as_view()),
    path("in-app/inbox/unread-count", in_app.UnreadCountView.as_view()),
    path("in-app/inbox/read", in_app.ReadView.as_view()),
    path("in-app/inbox/read-all", in_app.ReadAllView.as_view()),
    path("in-app/inbox/unread", in_app.UnreadView.as_view()),
    path("in-app/inbox/archive", in_app.ArchiveView.as_view()),
    path("in-app/inbox/unarchive", in_app.UnarchiveView.as_view()),
    path("in-app/messages", in_app.MessagesToDisplayView.as_view()),
    path("in-app/events", in_app.DeviceReportsView.as_view()),
    path("in-app/stream-tickets", in_app.StreamTicketsView.as_view()),
    path("in-app/stream", in_app.StreamView.as_view()),
]
