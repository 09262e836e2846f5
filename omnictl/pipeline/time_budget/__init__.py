"""A given time, planned over the units of a training: what they cost here, what they are known to give, and what data they read."""
