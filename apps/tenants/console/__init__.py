"""What every page of the operator console shares: who may do what, lists that stay fast, forms that call services.

An app's `admin.py` says what is shown and which service a button calls; everything else is here, so that no admin
can forget the application scope. `access` has the rights, `lists` the paginator and the filters, `actions` the
buttons, `forms` the fields, `panels` what stands beside a form, `base` puts them together, `site` is the frame.
"""

from apps.tenants.console.access import Grants, grants_of
from apps.tenants.console.actions import row_action
from apps.tenants.console.base import PlatformAdmin, ReadOnlyAdmin, ScopedAdmin, ScopedHistoryAdmin
from apps.tenants.console.forms import JSONObjectField, JSONTextarea
from apps.tenants.console.lists import AddedFilter, ApplicationFilter, as_uuid, link_filter, rare_filter
from apps.tenants.console.panels import (
    Panel,
    admin_link,
    badge,
    json_text,
    list_address,
    panel_for,
    short_id,
    table_panel,
)

__all__ = [
    "AddedFilter",
    "ApplicationFilter",
    "Grants",
    "JSONObjectField",
    "JSONTextarea",
    "Panel",
    "PlatformAdmin",
    "ReadOnlyAdmin",
    "ScopedAdmin",
    "ScopedHistoryAdmin",
    "admin_link",
    "as_uuid",
    "badge",
    "grants_of",
    "json_text",
    "link_filter",
    "list_address",
    "panel_for",
    "rare_filter",
    "row_action",
    "short_id",
    "table_panel",
]
