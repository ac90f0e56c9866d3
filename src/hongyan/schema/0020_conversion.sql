-- Which channels bring codes that people enter.

-- otp.conversions: how many codes were entered in time, by channel, by operator there, and by province there.
CREATE TABLE conversion (
    channel_id int NOT NULL,
    country    text NOT NULL,                        -- '': the channel as a whole
    operator   text NOT NULL,
    province   text NOT NULL,                        -- '': the operator as a whole
    good       float8 NOT NULL,                      -- entered within 120 s, fading by half in 2 h
    bad        float8 NOT NULL,                      -- not, the same
    dropping   float8 NOT NULL,                      -- how much speaks for a sudden drop; vocab/conversion.py
    heard_at   float8 NOT NULL,                      -- Unix seconds: as of when
    PRIMARY KEY (channel_id, country, operator, province)
);
