"""What happens when runs are killed, and files are damaged or forged."""
