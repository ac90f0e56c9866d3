"""The data plane: the message's way from a request to a proven report, one verb per stage."""
