"""Where the console finds the pages of tests: a step of the flow, a section of the result, a panel of a message."""

from apps.campaigns.experiments import results, step
from apps.messaging.models import Message
from apps.tenants.console.panels import panel_for

panel_for(Message)(results.message_variant)

__all__ = ["results", "step"]
