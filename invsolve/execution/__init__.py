"""Where jobs run: in this process, in worker processes of this machine, on a Ray cluster."""
