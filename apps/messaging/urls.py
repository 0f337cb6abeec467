from django.urls import path

from apps.messaging.api import messages, receipts, templates

urlpatterns = [
    path("templates", templates.TemplatesView.as_view()),
    path("templates/preview", templates.DraftPreviewView.as_view()),
    path("templates/<uuid:template_id>", templates.TemplateView.as_view()),
    path("templates/<uuid:template_id>/versions", templates.TemplateVersionsView.as_view()),
    path("templates/<uuid:template_id>/preview", templates.TemplatePreviewView.as_view()),
    path("messages", messages.MessagesView.as_view()),
    path("messages/failures", messages.FailuresView.as_view()),
    path("messages/requeue", messages.RequeuesView.as_view()),
    path("messages/requeues/<uuid:requeue_id>", messages.RequeueView.as_view()),
    path("messages/<uuid:message_id>", messages.MessageView.as_view()),
    path("messages/<uuid:message_id>/events", messages.MessageEventsView.as_view()),
    path("messages/<uuid:message_id>/cancel", messages.MessageCancelView.as_view()),
    path("messages/<uuid:message_id>/requeue", messages.MessageRequeueView.as_view()),
    path("receipts", receipts.ReceiptsView.as_view()),
]
