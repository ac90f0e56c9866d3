"""The last line by which browsers read a code out of a text; the standard itself is in vocab/autofill.py.

Writes nothing. It stands in texts abroad alone, for the host that the policy names: texts of codes on the mainland carry no
host. Whether a text lets machines read its code at all, the linter says when it is written (control/lint/machines.py).
"""

from hongyan.vocab.autofill import BoundCode, Fault, faults, line, parse, readings

__all__ = ["BoundCode", "Fault", "faults", "line", "parse", "readings"]
