"""One family of aggregations a file, all under the contract of `contract.py`."""
