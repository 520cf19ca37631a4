-- A little of everything that a dump can hold; small, for it is cloned for every test.
CREATE SCHEMA sales;
CREATE TYPE sales.state AS ENUM ('open', 'paid', 'sent');

CREATE TABLE public.customers (
    id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name  text NOT NULL,
    email text NOT NULL UNIQUE,
    upper text GENERATED ALWAYS AS (upper(name)) STORED
);
INSERT INTO public.customers (name, email)
SELECT 'customer ' || i, 'c' || i || '@example.com' FROM generate_series(1, 100) AS i;

CREATE TABLE sales.orders (
    id          serial PRIMARY KEY,
    customer_id bigint NOT NULL REFERENCES public.customers,
    state       sales.state NOT NULL DEFAULT 'open',
    amount      numeric(10, 2) NOT NULL CHECK (amount >= 0)
);
INSERT INTO sales.orders (customer_id, state, amount)
SELECT 1 + i % 100, (ARRAY['open', 'paid', 'sent']::sales.state[])[1 + i % 3], i FROM generate_series(1, 500) AS i;
CREATE INDEX ON sales.orders (customer_id);

CREATE TABLE sales.events (id bigint, at date NOT NULL, what text) PARTITION BY RANGE (at);
CREATE TABLE sales.events_2025 PARTITION OF sales.events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE sales.events_2026 PARTITION OF sales.events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
INSERT INTO sales.events SELECT i, date '2025-06-01' + i, 'event ' || i FROM generate_series(1, 400) AS i;

CREATE TABLE public.nothing (id int PRIMARY KEY);
CREATE TABLE public.parent (id int);
CREATE TABLE public.child (more text) INHERITS (public.parent);
INSERT INTO public.parent SELECT generate_series(1, 3);
INSERT INTO public.child SELECT i, 'x' FROM generate_series(1, 4) AS i;

CREATE TABLE public."Ünüsual ""name""" ("a column" text);
INSERT INTO public."Ünüsual ""name""" VALUES ('one'), (NULL);

CREATE UNLOGGED TABLE public.scratch AS SELECT generate_series(1, 5) AS i;
CREATE VIEW sales.open_orders AS SELECT * FROM sales.orders WHERE state = 'open';
CREATE MATERIALIZED VIEW sales.totals AS
SELECT customer_id, sum(amount) AS total FROM sales.orders GROUP BY customer_id;

SELECT lo_from_bytea(0, decode(repeat('6d61696e74', 1000), 'hex'));
ANALYZE;
