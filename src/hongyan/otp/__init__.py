"""Verification codes: made here, sent as messages, checked here; and what keeps abusers from asking for them.

It enters the data plane as any program does, through way.accept. Entry points: issue.py:Issuer, resend.py:Resender,
check.py:Checker.
"""
