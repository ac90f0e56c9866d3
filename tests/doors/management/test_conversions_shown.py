"""The platform sees which channels bring codes that people enter; nobody else does."""

from doors.management.desk import desk
from hongyan import clock
from hongyan.control.permissions import Role

ROWS = """
INSERT INTO conversion VALUES (1, '', '', '', 90, 40, 0, $1), (1, 'CN', 'cmcc', '', 90, 30, 0, $1),
                              (1, 'CN', 'cmcc', 'CN-GD', 9, 3, 0, $1), (2, 'CN', 'cmcc', '', 1, 99, 0, $1)
"""


async def test_the_platform_sees_what_share_of_codes_is_entered_by_channel_and_operator(
    database: str,
) -> None:
    async with desk(database) as one:
        await one.database.execute(ROWS, clock.now_s())
        items = (await one.ask("GET", "/v1/conversions")).json["data"]["items"]
        assert [(row["channel_id"], row["operator"], row["province"]) for row in items] == [
            (1, "cmcc", None),
            (2, "cmcc", None),
        ]
        good, bad = items
        assert 0.7 < good["share"] < 0.8
        assert bad["share"] < 0.1
        assert good["low"] < good["share"] < good["high"]
        assert round(good["outcomes"]) == 120
        fine = (await one.ask("GET", "/v1/conversions?provinces=true")).json["data"]["items"]
        assert [row["province"] for row in fine] == [None, "CN-GD", None]
        refused = await one.ask("GET", "/v1/conversions", as_=Role.OWNER)
        assert refused.status == 403
