"""Features: what is declared, and one pure definition of each.

Declarations, and one pure definition per feature, used alike by the stream, by history, by training and by serving.
Imports neither Feast nor Spark, and touches no store.
"""
