"""Online reads: the read plan, the query compiled from it, and the columns of the answer."""
