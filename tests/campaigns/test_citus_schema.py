"""The schema that Citus takes: keys with their application. Citus itself is not here; that the keys are right is read
from the catalogue, and that the platform runs on them is tried on plain PostgreSQL."""

import os
import subprocess
import sys
from io import StringIO
from urllib.parse import urlsplit, urlunsplit

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.db import connection

from apps.campaigns.management.commands.citus_schema import DISTRIBUTED, distribution_statements, key_statements
from tools.supervisor import ROOT

KEYS = """
    SELECT c.conrelid::regclass::text, c.contype::text, pg_get_constraintdef(c.oid)
    FROM pg_constraint c WHERE c.contype IN ('p', 'u', 'f') AND c.conrelid = ANY(%s::regclass[])
"""


def query(sql, *parameters):
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchall()


@pytest.mark.django_db
def test_every_key_between_distributed_tables_has_the_application():
    call_command("citus_schema", apply=True, stdout=StringIO())
    for table, kind, definition in query(KEYS, list(DISTRIBUTED)):
        if kind != "f":
            assert "(application_id, " in definition, f"{table}: {definition}"
        elif any(f"REFERENCES {target}(" in definition for target in DISTRIBUTED):
            assert definition.count("(application_id, ") == 2, f"{table}: {definition}"


@pytest.mark.django_db
def test_a_second_run_finds_nothing_to_do():
    assert key_statements()
    call_command("citus_schema", apply=True, stdout=StringIO())
    assert key_statements() == []


@pytest.mark.django_db
def test_an_id_is_still_found_without_its_application():
    call_command("citus_schema", apply=True, stdout=StringIO())
    indexed = {table for (table,) in query("SELECT tablename FROM pg_indexes WHERE indexdef LIKE '%%USING btree (id)'")}
    assert indexed >= set(DISTRIBUTED)


@pytest.mark.django_db
def test_the_table_of_a_foreign_key_is_distributed_after_the_one_it_names():
    tables = [statement.split("'")[1] for statement in distribution_statements() if "'" in statement]
    assert set(DISTRIBUTED) < set(tables)
    assert tables.index("tenants_application") < tables.index("subscriptions_appuser")
    assert tables.index("subscriptions_appuser") < tables.index("subscriptions_subscription")
    assert tables.index("messaging_dispatch") < tables.index("messaging_dispatchbatch")


@pytest.mark.django_db
def test_a_unique_index_without_the_application_is_refused():
    with connection.cursor() as cursor:
        cursor.execute("CREATE UNIQUE INDEX sneaky ON messaging_dispatch (campaign_id)")
    with pytest.raises(CommandError, match="sneaky"):
        call_command("citus_schema", stdout=StringIO())


def test_a_table_of_an_application_that_grows_is_distributed():
    """Whoever adds a model decides: distributed, or small enough for the coordinator."""
    small = {
        "analytics_audienceday",
        "analytics_devicehour",
        "analytics_dimensionvalue",
        "analytics_messagehour",
        "analytics_sdkhour",
        "analytics_subscriptionhour",
        "analytics_waithour",
        "analytics_export",
        "analytics_historicalreportschedule",
        "analytics_reportrun",
        "analytics_reportschedule",
        "billing_billingalert",
        "billing_billingprofile",
        "billing_historicalbillingprofile",
        "billing_historicalmessagequota",
        "billing_ledgeraccount",
        "billing_ledgertransaction",
        "billing_messagequota",
        "campaigns_campaignapproval",
        "campaigns_experiment",
        "campaigns_segment",
        "campaigns_variant",
        "campaigns_historicalmessagecampaign",
        "campaigns_historicalsegment",
        "messaging_gatewayrequest",  # claimed across applications, and gone after 40 days
        "messaging_kakaochannel",
        "messaging_kakaotemplate",
        "messaging_mediafile",
        "messaging_messagetemplate",
        "messaging_historicalmessagetemplate",
        "messaging_messagerequeue",
        "messaging_webhookdelivery",  # a hundred events a row, of one claimed lane, and gone after a week
        "messaging_webhookendpoint",
        "messaging_historicalwebhookendpoint",
        "subscriptions_consentnotice",
        "subscriptions_datarequest",
        "subscriptions_import",
        "subscriptions_messagecategory",
        "subscriptions_optin",
        "subscriptions_sendtiming",
        "tenants_apikey",
        "tenants_auditevent",
        "tenants_channelcredential",
        "tenants_historicalapikey",
        "tenants_historicalchannelcredential",
        "tenants_historicalmembership",
        "tenants_idempotencyrecord",
        "tenants_invitation",
        "tenants_membership",
    }
    scoped = {
        model._meta.db_table
        for model in apps.get_models()
        if any(field.column == "application_id" for field in model._meta.concrete_fields)
    }
    assert scoped == small | set(DISTRIBUTED)


HOT_PATH = (
    "tests/messaging/test_dispatch.py::test_a_campaigns_slice_is_sent_and_recorded",
    "tests/messaging/test_hot_queries.py::test_every_hot_query_names_the_application_of_each_of_its_tables",
)


@pytest.mark.timeout(300)
def test_a_campaign_goes_its_whole_way_on_these_keys():
    """Fan-out, claim, send, record, retry, receipts and requeue, by tests of their own, in a database of their own.

    Any test can be run so: `./run test -p tests.citus_keys tests/messaging`.
    """
    parts = urlsplit(os.environ["DATABASE_URL"])
    url = urlunsplit(parts._replace(path=f"{parts.path}_citus_{os.getpid()}"))
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "tests.citus_keys", *HOT_PATH],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": url},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert result.returncode == 0, result.stdout
