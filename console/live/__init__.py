"""Pages that stay true without being loaded again: readings off the event loop, and HTML that changes in place."""
