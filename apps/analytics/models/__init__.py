from apps.analytics.models.exports import Export, ExportDownload
from apps.analytics.models.reports import ReportRun, ReportSchedule
from apps.analytics.models.rollups import (
    AudienceDay,
    DeviceHour,
    DimensionValue,
    FillState,
    MessageHour,
    Rebuild,
    SdkHour,
    SubscriptionHour,
    WaitHour,
)

__all__ = [
    "AudienceDay",
    "DeviceHour",
    "DimensionValue",
    "Export",
    "ExportDownload",
    "FillState",
    "MessageHour",
    "Rebuild",
    "ReportRun",
    "ReportSchedule",
    "SdkHour",
    "SubscriptionHour",
    "WaitHour",
]
