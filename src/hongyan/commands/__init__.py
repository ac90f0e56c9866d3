"""The command line, one file per group of nouns. __main__.py puts them together.

What is slow to import is imported inside the commands that need it, so that `--help` answers at once.
"""
