"""The way out: one file per kind of upstream, behind the small protocol of channel.py."""
