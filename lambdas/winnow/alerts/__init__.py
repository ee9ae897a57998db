"""What people are told, in which words, and how it gets to them."""
