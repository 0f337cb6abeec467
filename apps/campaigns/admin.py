"""Where Django finds the console's pages of campaigns (`apps.campaigns.console`)."""

from apps.campaigns import home as home  # registers its section of the first page
from apps.campaigns import people as people  # its panel on the page of a user
from apps.campaigns import work as work  # its rows on the page of running work
from apps.campaigns.console import approval, campaigns, check, content, failures, launch, segments, steps
from apps.campaigns.console import template_uses as template_uses  # its panel on the page of a template
from apps.campaigns.experiments import pages as pages  # the variants of a test: their step, result, and messages

__all__ = ["approval", "campaigns", "check", "content", "failures", "launch", "segments", "steps"]
