"""Default commands on real-world files, compared with one-line tools."""
