"""Redis itself: its protocol, connections on threads and on an event loop, and subscriptions."""
