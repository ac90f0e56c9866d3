"""The configuration as data: channels, routes, prices, words, tenants' terms, policies and alarm rules as one document.

Writes nothing itself. document.py reads and masks it, difference.py compares two, applying.py makes the database equal to
one, versions.py keeps every one there was, rehearsal.py says what would become of yesterday's messages.
"""
