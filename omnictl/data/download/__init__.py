"""Public corpora by name: a table of them, downloads that go on after an interruption, and archives unpacked safely."""
