-- What is counted of hours that are over, summed to what people ask for: a statistics page reads a hundredth of the rows.

-- way.rollup: the tally of an hour, or of a day of China's, without provinces; as tenant 0, of everybody and without templates.
CREATE TABLE rollup (
    tenant_id   int NOT NULL,
    hours       smallint NOT NULL,                   -- 1 or 24, from `hour` on
    hour        timestamptz NOT NULL,
    status      smallint NOT NULL,
    cause       smallint NOT NULL,
    purpose     smallint NOT NULL,
    template_id int NOT NULL,
    channel_id  int NOT NULL,
    country     text NOT NULL,
    operator    text NOT NULL,
    latency     smallint NOT NULL,
    messages    bigint NOT NULL,
    parts       bigint NOT NULL,
    price_micro bigint NOT NULL,
    cost_micro  bigint NOT NULL,
    PRIMARY KEY (tenant_id, hours, hour, status, cause, purpose, template_id, channel_id, country, operator, latency)
);

-- way.rollup: the same with provinces, without causes and templates.
CREATE TABLE rollup_place (
    tenant_id   int NOT NULL,
    hours       smallint NOT NULL,                   -- 1 or 24, from `hour` on
    hour        timestamptz NOT NULL,
    status      smallint NOT NULL,
    purpose     smallint NOT NULL,
    channel_id  int NOT NULL,
    country     text NOT NULL,
    operator    text NOT NULL,
    province    text NOT NULL,
    latency     smallint NOT NULL,
    messages    bigint NOT NULL,
    parts       bigint NOT NULL,
    price_micro bigint NOT NULL,
    cost_micro  bigint NOT NULL,
    PRIMARY KEY (tenant_id, hours, hour, status, purpose, channel_id, country, operator, province, latency)
);

-- way.rollup: which hours are in both. Days follow once their last hour is.
CREATE TABLE rolled (
    hour timestamptz PRIMARY KEY
);

-- way.rollup: which days are, by when they begin.
CREATE TABLE rolled_day (
    hour timestamptz PRIMARY KEY
);

-- way: hours that were counted in after they may have been rolled up; each writer has its own row, so none waits.
CREATE TABLE tally_touched (
    hour  timestamptz NOT NULL,
    shard int NOT NULL,
    at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (hour, shard)
) WITH (fillfactor = 50);
