"""Features, codes and durations of audio."""
