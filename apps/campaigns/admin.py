"""Where Django finds the console's pages of campaigns (`apps.campaigns.console`)."""

from apps.campaigns import home as home  # registers its section of the first page
from apps.campaigns.console import approval, campaigns, check, content, failures, launch, segments, steps

__all__ = ["approval", "campaigns", "check", "content", "failures", "launch", "segments", "steps"]
