"""The page in the browser: `invsolve app`. It restores with the same functions and options as `invsolve restore`."""
