"""Commands that measure runs and speeds."""
