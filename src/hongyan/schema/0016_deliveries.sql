-- What was posted to webhooks; apps that are switched off.

-- way.posted: one POST to a webhook and what came of it. The id stood in the POST, as Hongyan-Delivery-Id, and its time is
-- when we posted. Bounded by age and for each app (way.posted), so it has no partitions.
CREATE TABLE delivery (
    id          uuid PRIMARY KEY,
    app_id      int NOT NULL,
    kind        smallint NOT NULL,                   -- 1 notices, 2 an announcement, 3 a test
    status      smallint NOT NULL,                   -- of HTTP; 0: no answer
    error       text NOT NULL DEFAULT '',            -- why there was none
    took_ms     int NOT NULL,
    attempt     smallint NOT NULL,                   -- from 1; of several notices the highest
    event       text NOT NULL DEFAULT '',            -- of an announcement
    message_ids uuid[] NOT NULL DEFAULT '{}',
    kinds       bytea NOT NULL DEFAULT '',           -- of each notice, an octet
    notice_ids  bigint[] NOT NULL DEFAULT '{}'       -- of those that were not taken: they are tried again
) WITH (autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX delivery_app ON delivery (app_id, id);
CREATE INDEX delivery_failed ON delivery (app_id, id) WHERE status < 200 OR status > 299;

-- control.tenants: the keys and logins of an app that is switched off are refused; what it was promised goes its way.
ALTER TABLE app ADD COLUMN active boolean NOT NULL DEFAULT true;
