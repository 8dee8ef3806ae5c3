"""An online shop's app: what customers view, put into their carts and buy."""
