"""The page of PDUs is printed from the tables and stands as they are."""

from pathlib import Path

from hongyan.wire import document

PAGE = Path(__file__).parents[2] / "docs/wire.md"


def test_the_page_says_what_the_tables_say() -> None:
    assert PAGE.read_text("utf-8") == document.page()


def test_every_field_that_reads_itself_says_how() -> None:
    assert "()" not in document.page()
