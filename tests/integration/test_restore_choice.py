"""maint restore of chosen schemas and tables: what belongs to them comes along, what cannot be is named."""

from collections.abc import Callable

import pytest
from support.dumps import NEWEST, counts
from support.maint import Maint
from support.postgres import Database
from support.restores import backed_up

MakeDatabase = Callable[..., Database]
Configured = Callable[..., Maint]
Target = Callable[..., Database]

#: beside support/sample.sql
MORE = """
CREATE SCHEMA util;
CREATE FUNCTION util.touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE DOMAIN util.positive AS int CHECK (VALUE > 0);
CREATE SEQUENCE util.numbers;
SELECT setval('util.numbers', 41);
CREATE TABLE sales.lines (
    order_id int REFERENCES sales.orders, n util.positive, number bigint DEFAULT nextval('util.numbers'));
INSERT INTO sales.lines SELECT i, i FROM generate_series(1, 20) AS i;
CREATE TRIGGER touched BEFORE UPDATE ON sales.orders FOR EACH ROW EXECUTE FUNCTION util.touch();
CREATE STATISTICS sales.both ON state, amount FROM sales.orders;
COMMENT ON TABLE sales.orders IS 'what was sold';
COMMENT ON COLUMN sales.orders.amount IS 'in euro';
GRANT SELECT ON sales.orders TO PUBLIC;
ALTER TABLE sales.orders ENABLE ROW LEVEL SECURITY;
CREATE POLICY everybody ON sales.orders USING (true);
CREATE VIEW public.mixed AS SELECT * FROM sales.lines JOIN public.customers ON id = order_id;
CREATE TABLE public.orders (other int PRIMARY KEY);
INSERT INTO public.orders VALUES (1), (2);
"""


@pytest.fixture
def maint(database: Database, configured: Configured) -> Maint:
    database.execute(MORE)
    return backed_up(configured(database))


def _restored(maint: Maint, database: Database, copy: Database, *choice: str) -> dict[str, list[str]]:
    answer = maint("restore", database.name, "--to", copy.name, *choice, "--json")
    assert answer.code == 0, answer.err + answer.out
    said = answer.json
    assert said["problems"] == said["differing"] == []
    assert said["rows_compared"] == sum(counts(copy).values())
    return {name: [" ".join(text.split()) for text in said[name]] for name in ("left_out", "came_along")}


def test_one_table_with_all_that_belongs_to_it(maint: Maint, database: Database, target: Target) -> None:
    copy = target()
    said = _restored(maint, database, copy, "--table=sales.orders")
    assert counts(copy) == {("sales", "orders"): 500}
    assert said["left_out"] == [
        "FK CONSTRAINT sales orders orders_customer_id_fkey postgres: needs TABLE public customers postgres",
        "the large objects: they are in no table",
    ]
    assert sorted(said["came_along"]) == [
        "FUNCTION util touch() postgres",
        "SCHEMA sales postgres",
        "SCHEMA util postgres",
        "TYPE sales state postgres",
    ]
    for query in (
        "SELECT array_agg(indexname ORDER BY indexname) FROM pg_indexes WHERE schemaname || tablename = 'salesorders'",
        "SELECT array_agg(conname ORDER BY conname) FROM pg_constraint"
        " WHERE conrelid = 'sales.orders'::regclass AND contype <> 'f'",
        "SELECT array_agg(tgname) FROM pg_trigger WHERE tgrelid = 'sales.orders'::regclass AND NOT tgisinternal",
        "SELECT array_agg(polname) FROM pg_policy WHERE polrelid = 'sales.orders'::regclass",
        "SELECT array_agg(stxname) FROM pg_statistic_ext WHERE stxrelid = 'sales.orders'::regclass",
        "SELECT relacl::text || relrowsecurity || obj_description(oid) || col_description(oid, 4) FROM pg_class"
        " WHERE oid = 'sales.orders'::regclass",
    ):
        assert copy.value(query) == database.value(query) is not None, query
    assert copy.value("INSERT INTO sales.orders (customer_id, amount) VALUES (1, 1) RETURNING id") == 501


def test_two_tables_keep_the_key_between_them(maint: Maint, database: Database, target: Target) -> None:
    copy = target()
    said = _restored(maint, database, copy, "--table", "sales.orders", "--table", "customers")
    assert counts(copy).keys() == {("sales", "orders"), ("public", "customers")}
    assert said["left_out"] == ["the large objects: they are in no table"]
    assert copy.value("SELECT count(*) FROM pg_constraint WHERE conname = 'orders_customer_id_fkey'") == 1
    assert copy.value("INSERT INTO public.customers (name, email) VALUES ('x', 'x') RETURNING id") == 101


def test_a_name_without_schema_is_that_of_any_schema(maint: Maint, database: Database, target: Target) -> None:
    copy = target()
    _restored(maint, database, copy, "--table=orders")
    assert counts(copy) == {("sales", "orders"): 500, ("public", "orders"): 2}


@NEWEST
def test_a_quoted_name(maint: Maint, database: Database, target: Target) -> None:
    for name in ('public."Ünüsual ""name"""', 'public.Ünüsual "name"', '"Ünüsual ""name"""'):
        copy = target()
        _restored(maint, database, copy, f"--table={name}")
        assert counts(copy) == {("public", 'Ünüsual "name"'): 2}, name


def test_a_partitioned_table_brings_its_partitions(maint: Maint, database: Database, target: Target) -> None:
    whole, one = target(), target()
    _restored(maint, database, whole, "--table=sales.events")
    assert counts(whole) == {("sales", "events_2025"): 213, ("sales", "events_2026"): 187}
    assert whole.value("SELECT count(*) FROM sales.events") == 400
    said = _restored(maint, database, one, "--table=sales.events_2026")
    assert counts(one) == {("sales", "events_2026"): 187}
    assert any(text.startswith("TABLE ATTACH sales events_2026") for text in said["left_out"])


@NEWEST
def test_a_child_by_inheritance_brings_the_definition_of_its_parent(
    maint: Maint, database: Database, target: Target
) -> None:
    copy = target()
    answer = maint("restore", database.name, "--to", copy.name, "--table=public.child", "--json")
    assert answer.code == 0, answer.err
    assert counts(copy) == {("public", "child"): 4, ("public", "parent"): 0}
    assert answer.json["came_along"] == ["TABLE public parent postgres"]


@NEWEST
def test_what_a_table_needs_comes_along(maint: Maint, database: Database, target: Target) -> None:
    copy = target()
    said = _restored(maint, database, copy, "--table=sales.lines")
    assert counts(copy) == {("sales", "lines"): 20}
    assert "SEQUENCE util numbers postgres" in said["came_along"]
    assert copy.value("INSERT INTO sales.lines VALUES (1, 1) RETURNING number") == database.value(
        "SELECT last_value + 1 FROM util.numbers"
    )


def test_a_schema(maint: Maint, database: Database, target: Target) -> None:
    copy = target()
    said = _restored(maint, database, copy, "--schema=sales")
    assert {schema for schema, _ in counts(copy)} == {"sales"}
    assert copy.value("SELECT count(*) FROM sales.totals") == 100
    assert copy.value("SELECT count(*) FROM sales.open_orders") > 0
    assert [text for text in said["left_out"] if "customer_id_fkey" in text]
    assert copy.value("SELECT count(*) FROM pg_constraint WHERE conname = 'lines_order_id_fkey'") == 1


@NEWEST
def test_a_view_whose_table_is_not_chosen(maint: Maint, database: Database, target: Target) -> None:
    copy = target()
    answer = maint("restore", database.name, "--to", copy.name, "--table=mixed")
    assert answer.code == 2
    assert "VIEW public mixed postgres: needs TABLE" in answer.err
    said = _restored(maint, database, copy, "--schema=public")
    assert "VIEW public mixed postgres: needs TABLE sales lines postgres" in said["left_out"]
    assert copy.value("SELECT count(*) FROM pg_class WHERE relname = 'mixed'") == 0


@NEWEST
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_choice_of_a_directory_or_with_several_jobs(
    database: Database, configured: Configured, target: Target, jobs: int
) -> None:
    maint, copy = backed_up(configured(database), 'format = "directory"'), target()
    _restored(maint, database, copy, "--table=sales.orders", f"--jobs={jobs}")
    assert counts(copy) == {("sales", "orders"): 500}
