"""What Dues tells of itself: logs, metrics, traces."""
