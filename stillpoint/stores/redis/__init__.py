"""Redis: keys and fields, connections, atomic ordered writes, and deletion."""
