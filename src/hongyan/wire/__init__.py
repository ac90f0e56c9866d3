"""The protocols, sans-I/O: bytes and `now_s` go in, values and bytes come out.

No socket, no clock, nothing else of ours; could be published alone. fields turns tables into functions,
session is the machine every protocol shares, and each protocol is one file of tables beside them.
"""
