"""The way in: every way a customer's program reaches us. http.py puts the nouns together."""
