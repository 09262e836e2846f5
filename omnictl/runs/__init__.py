"""Run directories: where they are, who may write, what is in them, and files that are whole or not there at all."""
