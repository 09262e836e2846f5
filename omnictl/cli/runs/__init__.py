"""Commands that find, compare, check and remove runs."""
