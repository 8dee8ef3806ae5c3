"""Can the numbers be believed, and has a person been forgotten?"""
