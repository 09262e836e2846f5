"""Pure metrics: numbers in, numbers out."""
