"""Settings found on tuning images: what `invsolve tune` and `invsolve calibrate` do."""
