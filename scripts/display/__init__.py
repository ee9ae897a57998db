"""What people read about a run: its progress, its failures and its proof."""
