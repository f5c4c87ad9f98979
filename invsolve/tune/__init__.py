"""Tuning of settings and calibration of intervals on images, for `invsolve tune` and `invsolve calibrate`."""
