"""A file of people is uploaded, its columns are said by clicks, it is checked, looked at and applied."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from apps.subscriptions.imports.models import Import
from apps.subscriptions.models import Subscription
from apps.tenants.models import Application
from tests.browser.conftest import PHONE
from tests.subscriptions.importing import work

PEOPLE = """E-Mail,Customer number,Favourite genre,Points,Newsletter,Internal note
mina.kim@example.com,c-1001,novels,1280,yes,called in May
jun.park@example.com,c-1002,history,40,no,
not an address,c-1003,poems,7,yes,
sora.lee@example.com,c-1004,novels,many,yes,
"""


@pytest.fixture
def application(transactional_db) -> Application:
    return Application.objects.create(name="Hanbit Books", time_zone="Asia/Seoul")


def test_a_file_becomes_subscribers(browse, application, tmp_path):
    console = browse("manager")
    page = console.open("/admin/subscriptions/import/add/")
    file = tmp_path / "customers.csv"
    file.write_text(PEOPLE)
    console.shot("import-file")
    page.locator("#id_application").select_option(str(application.pk))
    page.locator("#id_kind").select_option("subscriptions")
    page.locator("#id_file").set_input_files(file)
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", name="What are the columns?")).to_be_visible()
    expect(page.get_by_label("What E-Mail is", exact=True)).to_have_value("token")
    expect(page.get_by_label("What Points is", exact=True)).to_have_value(":number")
    expect(page.get_by_label("Type of all subscriptions")).to_have_value("")
    page.get_by_label("What Customer number is", exact=True).select_option("external_id")
    page.get_by_label("Name of the property or tag for Favourite genre").fill("genre")
    page.get_by_label("What Internal note is", exact=True).select_option("")
    console.shot("import-columns")
    console.axe()
    page.get_by_role("button", name="Check the file").click()
    expect(page.get_by_text("there is no such column")).to_be_visible()  # what kind of addresses these are
    page.get_by_label("Type of all subscriptions").select_option("Email")
    page.get_by_role("button", name="Check the file").click()
    expect(page.get_by_text("You can leave this page")).to_be_visible()
    run = Import.objects.get()
    work(run)
    expect(page.get_by_text("This is what would happen.")).to_be_visible()
    expect(page.get_by_text("must be a number such as 12 or -0.5")).to_be_visible()
    console.shot("import-checked")
    console.axe()
    assert not Subscription.objects.exists()
    page.get_by_role("link", name="Apply").click()
    page.get_by_role("button", name="Apply").click()
    work(run)
    expect(page.get_by_text("The file is imported.")).to_be_visible()
    console.shot("import-done")
    found = Subscription.objects.get(user__external_id="c-1001")
    assert found.tags == {"genre": "novels", "Points": 1280, "Newsletter": True}
    assert Subscription.objects.count() == 2

    phone = browse("manager", viewport=PHONE, color_scheme="dark")
    phone.open(f"/admin/subscriptions/import/{run.pk}/change/")
    phone.shot("import-phone-dark")
    phone.fits()
