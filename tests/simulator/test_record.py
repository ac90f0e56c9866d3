"""What is counted, and where counting one by one ends."""

from hongyan.simulator.record import Destination, Record


def test_a_number_nobody_wrote_to_has_nothing() -> None:
    assert Record().destination("138") == Destination()


def test_numbers_beyond_the_maximum_are_counted_together() -> None:
    record = Record(destinations_max=1)
    for number in ("138", "139", "137"):
        record.submitted(number, 0.0)
        record.taken(number, (number,), "1", 0.0)
        record.reported(number, "1", "DELIVRD", 0.0, tries=1)
    counted = record.statistics(sessions=0, owed=0)
    assert (counted.submits, counted.parts, counted.reports) == (3, 3, 3)
    assert (counted.destinations, counted.destinations_beyond) == (1, 2)
    assert record.destination("139") == Destination()


def test_a_further_try_is_no_further_report() -> None:
    record = Record()
    record.submitted("138", 0.0)
    for tries in (1, 2, 3):
        record.reported("138", "1", "DELIVRD", 0.0, tries)
    counted = record.statistics(sessions=0, owed=0)
    assert (counted.reports, counted.reports_resent, record.destination("138").reports) == (1, 2, 1)
