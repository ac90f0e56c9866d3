"""Tests of the protocols; a package, so that files here may share names with tests of other rooms."""
