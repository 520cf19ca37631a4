-- Purpose: a day's business in the shop of maint demo, so that its backups differ.
-- Privileges: owner of the tables; only ever sent to a throw-away server
-- Version: 14+
-- Source: made up
INSERT INTO sales.orders (customer_id, state, ordered_at)
SELECT 1 + public.pick(60, i, 20000), 'open', now() FROM generate_series(1, 400) AS i;
INSERT INTO sales.items (order_id, line, product_id, quantity, price)
SELECT o.id, 1, 1 + public.pick(61, o.id, 2000), 1, 19.99
FROM sales.orders AS o
WHERE o.ordered_at = now();
INSERT INTO web.events (at, customer_id, what, path)
SELECT now(), customer_id, 'pay', '/checkout' FROM sales.orders WHERE ordered_at = now();
UPDATE sales.orders SET state = 'shipped' WHERE state = 'paid' AND public.pick(62, id, 10) = 0;
REFRESH MATERIALIZED VIEW sales.revenue;
