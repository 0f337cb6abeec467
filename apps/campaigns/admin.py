"""Where Django finds the console's pages of campaigns (`apps.campaigns.console`)."""

from apps.campaigns import home
from apps.campaigns.console import approval, campaigns, check, failures, launch, segments, steps

__all__ = ["approval", "campaigns", "check", "failures", "home", "launch", "segments", "steps"]
