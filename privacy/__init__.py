"""Privacy: erasing one user everywhere, with a receipt, and exporting all that is known of one."""
