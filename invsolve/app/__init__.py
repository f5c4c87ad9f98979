"""The browser page `invsolve app`. It uses the same functions and options as `invsolve restore`."""
