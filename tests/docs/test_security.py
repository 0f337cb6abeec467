"""`docs/security.md`, held against the roles."""

from __future__ import annotations

from apps.tenants.models import Role
from apps.tenants.scopes import ROLE_SCOPES, SCOPES
from tests.docs.markdown import codes, table, text


def test_the_table_of_roles_is_what_the_code_says():
    rows = table(text("security.md"), "Roles")
    assert [codes(row["Scope"])[0] for row in rows] == list(SCOPES)
    for role in Role:
        shown = {codes(row["Scope"])[0] for row in rows if row[role.value.capitalize()] == "yes"}
        assert shown == ROLE_SCOPES[role]
