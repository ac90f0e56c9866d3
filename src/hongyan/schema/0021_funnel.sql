-- How far people come who are asked to prove a number; texts whose codes are still to be taken away.

-- otp.funnel: how many verifications of an hour came to a step, and how long after they were asked for.
CREATE TABLE funnel (
    tenant_id  int NOT NULL,
    hour       timestamptz NOT NULL,                 -- in which they were asked for
    app_id     int NOT NULL,
    scene      smallint NOT NULL,                    -- vocab.verification.Scene
    country    text NOT NULL,                        -- '' where no number was given yet
    operator   text NOT NULL,
    channel_id int NOT NULL,                         -- of the message that arrived, else of the last; 0: none, or none knows
    step       smallint NOT NULL,                    -- otp.funnel.Step
    bucket     smallint NOT NULL,                    -- of otp.funnel.BOUNDS_S; -1: nobody knows how long it took
    count      bigint NOT NULL,
    seconds    float8 NOT NULL,                      -- the sum of them
    PRIMARY KEY (tenant_id, hour, app_id, scene, country, operator, channel_id, step, bucket)
) WITH (fillfactor = 70);

-- otp.ripen: messages of ended verifications whose text still has its code, because it may still leave.
CREATE TABLE code_text (
    tenant_id  int NOT NULL,
    message_id uuid NOT NULL,
    look_at    timestamptz NOT NULL,                 -- not before then again
    looks      smallint NOT NULL DEFAULT 0,          -- so often it was still to leave
    PRIMARY KEY (tenant_id, message_id)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX code_text_due ON code_text (look_at);
