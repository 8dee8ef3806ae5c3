"""What does the whole path look like, told as a story on one machine?

The demo does what people do: it runs the verbs of the command line and speaks HTTP. It imports no room.
"""
