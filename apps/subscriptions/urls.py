from django.urls import path

from apps.subscriptions.api import imports, subscriptions, users
from apps.subscriptions.preferences import api as preferences

urlpatterns = [
    path("subscriptions", subscriptions.SubscriptionsView.as_view()),
    path("subscriptions/<uuid:subscription_id>", subscriptions.SubscriptionView.as_view()),
    path("subscriptions/<uuid:subscription_id>/login", subscriptions.LoginView.as_view()),
    path("subscriptions/<uuid:subscription_id>/logout", subscriptions.LogoutView.as_view()),
    path("subscriptions/<uuid:subscription_id>/tags", subscriptions.TagsView.as_view()),
    path("subscriptions/<uuid:subscription_id>/preferences", preferences.SubscriptionPreferencesView.as_view()),
    path("subscriptions/<uuid:subscription_id>/opt-in", preferences.OptInView.as_view()),
    path("categories", preferences.CategoriesView.as_view()),
    path("categories/<uuid:category_id>", preferences.CategoryView.as_view()),
    path("consents", preferences.ConsentsView.as_view()),
    path("consents/events", preferences.ConsentEventsView.as_view()),
    path("consents/notices", preferences.NoticesView.as_view()),
    path("consents/notices/<uuid:notice_id>/done", preferences.NoticeDoneView.as_view()),
    path("suppressions", preferences.SuppressionsView.as_view()),
    path("suppressions/import", preferences.SuppressionImportView.as_view()),
    path("suppressions/<uuid:suppression_id>/remove", preferences.SuppressionRemoveView.as_view()),
    path("imports", imports.ImportsView.as_view()),
    path("imports/<uuid:import_id>", imports.ImportView.as_view()),
    path("imports/<uuid:import_id>/apply", imports.ImportApplyView.as_view()),
    path("imports/<uuid:import_id>/cancel", imports.ImportCancelView.as_view()),
    path("imports/<uuid:import_id>/rejects", imports.ImportRejectsView.as_view()),
    path("users", users.UsersView.as_view()),
    path("users/by-external-id", users.UserByExternalIdView.as_view()),
    path("users/by-external-id/erase", users.UserEraseByExternalIdView.as_view()),
    path("users/by-external-id/export", users.UserExportByExternalIdView.as_view()),
    path("users/by-external-id/preferences", preferences.UserPreferencesByExternalIdView.as_view()),
    path("users/<uuid:user_id>/preferences", preferences.UserPreferencesView.as_view()),
    path("users/<uuid:user_id>", users.UserView.as_view()),
    path("users/<uuid:user_id>/erase", users.UserEraseView.as_view()),
    path("users/<uuid:user_id>/export", users.UserExportView.as_view()),
]
