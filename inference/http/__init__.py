"""The HTTP service: admission, routes, schemas, handlers, and how the server runs and drains."""
