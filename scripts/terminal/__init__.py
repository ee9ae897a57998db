"""How every command tells what it does, and what went wrong."""
