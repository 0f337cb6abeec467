from django.urls import path

from apps.campaigns import api
from apps.campaigns.approvals import api as approvals
from apps.campaigns.experiments import api as experiments

urlpatterns = [
    path("segments", api.SegmentsView.as_view()),
    path("segments/<uuid:segment_id>", api.SegmentView.as_view()),
    path("segments/<uuid:segment_id>/count", api.SegmentCountView.as_view()),
    path("audience/count", api.AudienceCountView.as_view()),
    path("campaigns", api.CampaignsView.as_view()),
    path("campaigns/<uuid:campaign_id>", api.CampaignView.as_view()),
    path("campaigns/<uuid:campaign_id>/schedule", api.CampaignScheduleView.as_view()),
    path("campaigns/<uuid:campaign_id>/unschedule", api.CampaignUnscheduleView.as_view()),
    path("campaigns/<uuid:campaign_id>/launch", api.CampaignLaunchView.as_view()),
    path("campaigns/<uuid:campaign_id>/pause", api.CampaignPauseView.as_view()),
    path("campaigns/<uuid:campaign_id>/resume", api.CampaignResumeView.as_view()),
    path("campaigns/<uuid:campaign_id>/cancel", api.CampaignCancelView.as_view()),
    path("campaigns/<uuid:campaign_id>/requeue-failed", api.CampaignRequeueView.as_view()),
    path("campaigns/<uuid:campaign_id>/test", api.CampaignTestView.as_view()),
    path("campaigns/<uuid:campaign_id>/stats", api.CampaignStatsView.as_view()),
    path("campaigns/<uuid:campaign_id>/duplicate", approvals.DuplicateView.as_view()),
    path("campaigns/<uuid:campaign_id>/approval", approvals.ApprovalView.as_view()),
    path("campaigns/<uuid:campaign_id>/approval/approve", approvals.ApproveView.as_view()),
    path("campaigns/<uuid:campaign_id>/approval/reject", approvals.RejectView.as_view()),
    path("campaigns/<uuid:campaign_id>/experiment", experiments.CampaignExperimentView.as_view()),
    path("campaigns/<uuid:campaign_id>/experiment/winner", experiments.CampaignWinnerView.as_view()),
]
