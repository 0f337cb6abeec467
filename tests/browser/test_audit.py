"""The audit log, as who asks it: what was done, by whom, from where, before and after; and its export."""

from __future__ import annotations

from apps.tenants.audit.services import audit
from apps.tenants.models import Role
from apps.tenants.services import membership_set, operator_create
from tests.browser.conftest import PHONE, operator_of


def test_what_was_done_is_found_looked_at_and_taken_along(browse, application, tmp_path):
    member = operator_create(email="mina@example.com", name="Mina")
    row = membership_set(operator=member, application=application, role=Role.ANALYST)
    boss = operator_of("owner", application)
    for action in ("campaign.launch", "export.add", "apikey.rotate"):
        audit(action, actor=boss, application_id=application.pk, row=application)

    console = browse("owner")
    page = console.open(f"/admin/tenants/membership/{row.pk}/change/")
    page.select_option("#id_role", "support")
    page.click("[name=_save]")
    console.settle()

    page = console.open("/admin/tenants/auditevent/")
    assert page.locator("#result_list tbody tr").count() == 4
    console.axe()
    console.shot("audit-log")
    page = console.open("/admin/tenants/auditevent/?q=membership.")
    page.click("#result_list tbody tr a")
    console.settle()
    text = page.inner_text("#content, main")
    assert "analyst" in text
    assert "support" in text
    assert "owner@example.com" in text
    console.axe()
    console.shot("audit-event")

    page = console.open("/admin/tenants/auditevent/?area=export")
    with page.expect_download() as waiting:
        page.click("text=Export as CSV")
    path = tmp_path / "audit.csv"
    waiting.value.save_as(path)
    lines = path.read_text("utf-8-sig").splitlines()
    assert len(lines) == 2
    assert "export.add" in lines[1]

    phone = browse("owner", viewport=PHONE, color_scheme="dark")
    phone.open("/admin/tenants/auditevent/")
    phone.fits()
    phone.shot("audit-log-phone-dark")
    phone.choose_language("ko")
    phone.open("/admin/tenants/auditevent/")
    phone.shot("audit-log-phone-ko")
    console.open(f"/admin/tenants/membership/{row.pk}/history/")
    console.axe()
    console.shot("audit-history-of-a-row")
