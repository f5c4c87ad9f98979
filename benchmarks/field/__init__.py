"""Default commands on files as people have them, beside one-line tools."""
