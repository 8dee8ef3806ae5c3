"""How do snapshots become models that may be released?"""
