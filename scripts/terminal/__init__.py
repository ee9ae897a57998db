"""How every command reports its progress and its errors."""
