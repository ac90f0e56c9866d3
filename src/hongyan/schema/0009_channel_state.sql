-- How channels fare, told by those who hold their sessions; draining; route rules that rest.

ALTER TABLE channel ADD COLUMN drain_until timestamptz;   -- set: takes nothing new, waits for reports until then at most, logs out

-- A rule may rest and come back; one that is removed stays only because traces name it.
ALTER TABLE route_rule ADD COLUMN removed boolean NOT NULL DEFAULT false;
UPDATE route_rule SET removed = true WHERE NOT active;

-- way.state: how a channel fares at one gateway, told anew about every second.
CREATE TABLE channel_state (
    channel_id int NOT NULL,
    gateway    int NOT NULL,
    told_at    timestamptz NOT NULL DEFAULT now(),
    told       jsonb NOT NULL,
    PRIMARY KEY (channel_id, gateway)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
