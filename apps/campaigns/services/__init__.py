"""Everything that changes segments and campaigns.

`by` is who does it, for the history: `Caller.label` of an API key, the name of a sweep. Where an operator is signed
in, simple-history knows them from the request.
"""

from apps.campaigns.services.approval import approval_approve, approval_ask, approval_reject
from apps.campaigns.services.drafts import (
    CampaignFields,
    campaign_content,
    campaign_create,
    campaign_delete,
    campaign_plan,
    campaign_update,
)
from apps.campaigns.services.duplicate import campaign_duplicate
from apps.campaigns.services.fanout import (
    campaigns_continue_fanouts,
    fan_out,
    fan_out_step,
    queue_fan_out,
)
from apps.campaigns.services.lifecycle import (
    TEST_RECIPIENTS_MAX,
    campaign_cancel,
    campaign_launch,
    campaign_pause,
    campaign_requeue_failed,
    campaign_resume,
    campaign_schedule,
    campaign_test,
    campaign_unschedule,
    campaigns_finish_done,
    campaigns_launch_due,
)
from apps.campaigns.services.segments import segment_create, segment_delete, segment_update

__all__ = [
    "TEST_RECIPIENTS_MAX",
    "CampaignFields",
    "approval_approve",
    "approval_ask",
    "approval_reject",
    "campaign_cancel",
    "campaign_content",
    "campaign_create",
    "campaign_delete",
    "campaign_duplicate",
    "campaign_launch",
    "campaign_pause",
    "campaign_plan",
    "campaign_requeue_failed",
    "campaign_resume",
    "campaign_schedule",
    "campaign_test",
    "campaign_unschedule",
    "campaign_update",
    "campaigns_continue_fanouts",
    "campaigns_finish_done",
    "campaigns_launch_due",
    "fan_out",
    "fan_out_step",
    "queue_fan_out",
    "segment_create",
    "segment_delete",
    "segment_update",
]
