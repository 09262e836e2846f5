"""Reading conversations, and writing and saying replies to them."""
