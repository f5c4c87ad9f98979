"""Speed: overhead of a step, whole restorations, memory, growth and start-up, compared with other libraries."""
