"""The training loop and what it stands on; it knows neither models nor data, only the `Stage` protocol."""
