"""Speed: what a step costs beyond the network, whole restorations, memory, growth and start-up, beside the peers."""
