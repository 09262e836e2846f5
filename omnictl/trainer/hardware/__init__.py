"""The device, and which number formats it multiplies how fast."""
