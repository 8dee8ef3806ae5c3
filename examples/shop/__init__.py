"""An online shop's app: what people view, put into their carts and buy."""
