"""What the database itself holds the ledger to: written once, and balanced.

Entries and transactions cannot be changed, deleted or emptied, and entries come with their transaction only: in the
same database transaction. A database for tests, whose name begins with `test_`, may say that its ledger may be emptied
(`ALTER DATABASE … SET automata.ledger_may_be_emptied = 'on'`); no other may.

Whoever fills the tables from a dump of their data alone switches triggers off (`pg_restore --disable-triggers`).
"""

from django.db import migrations

RULES = """
CREATE FUNCTION billing_ledger_is_written_once() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' AND starts_with(current_database(), 'test_')
            AND current_setting('automata.ledger_may_be_emptied', true) = 'on' THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION 'the ledger is written once: % of % is refused', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation', HINT = 'Write an adjustment.';
END $$;

CREATE FUNCTION billing_ledger_is_balanced() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    problem text;
    present bigint := pg_current_xact_id()::text::bigint;
    written_by bigint;
BEGIN
    SELECT CASE
        WHEN count(DISTINCT e.amount_currency) > 1 OR bool_or(e.amount_currency <> a.balance_currency)
            THEN 'its entries are in different currencies'
        WHEN bool_or(a.application_id <> t.application_id) THEN 'an account is another application''s'
        WHEN sum(e.amount) <> 0 THEN 'its entries sum to ' || sum(e.amount)
    END INTO problem
    FROM billing_ledgerentry e
        JOIN billing_ledgeraccount a ON a.id = e.account_id
        JOIN billing_ledgertransaction t ON t.id = e.transaction_id
    WHERE e.transaction_id = NEW.transaction_id;
    -- A row that is seen and whose writer still runs was written by ourselves, in whatever savepoint. `xmin` has the low
    -- 32 bits of the writer's number: the nearest number to the present one that has them.
    SELECT present + ((t.xmin::text::bigint - present + 2147483648) & 4294967295) - 2147483648 INTO written_by
    FROM billing_ledgertransaction t WHERE t.id = NEW.transaction_id;
    IF problem IS NULL AND pg_xact_status(greatest(written_by, 3)::text::xid8) IS DISTINCT FROM 'in progress' THEN
        problem := 'it was written before';
    END IF;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION 'ledger transaction % does not balance: %', NEW.transaction_id, problem
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER ledger_entry_is_written_once BEFORE UPDATE OR DELETE ON billing_ledgerentry
    FOR EACH ROW EXECUTE FUNCTION billing_ledger_is_written_once();
CREATE TRIGGER ledger_entry_is_not_emptied BEFORE TRUNCATE ON billing_ledgerentry
    FOR EACH STATEMENT EXECUTE FUNCTION billing_ledger_is_written_once();
CREATE TRIGGER ledger_transaction_is_written_once BEFORE UPDATE OR DELETE ON billing_ledgertransaction
    FOR EACH ROW EXECUTE FUNCTION billing_ledger_is_written_once();
CREATE TRIGGER ledger_transaction_is_not_emptied BEFORE TRUNCATE ON billing_ledgertransaction
    FOR EACH STATEMENT EXECUTE FUNCTION billing_ledger_is_written_once();
CREATE CONSTRAINT TRIGGER ledger_transaction_is_balanced AFTER INSERT ON billing_ledgerentry
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION billing_ledger_is_balanced();
"""
NO_RULES = """
DROP TRIGGER ledger_transaction_is_balanced ON billing_ledgerentry;
DROP TRIGGER ledger_transaction_is_not_emptied ON billing_ledgertransaction;
DROP TRIGGER ledger_transaction_is_written_once ON billing_ledgertransaction;
DROP TRIGGER ledger_entry_is_not_emptied ON billing_ledgerentry;
DROP TRIGGER ledger_entry_is_written_once ON billing_ledgerentry;
DROP FUNCTION billing_ledger_is_balanced();
DROP FUNCTION billing_ledger_is_written_once();
"""


class Migration(migrations.Migration):
    dependencies = [("billing", "0001_initial")]

    operations = [migrations.RunSQL(RULES, NO_RULES)]
