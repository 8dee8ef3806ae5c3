"""The console: a web application that shows what the verbs tell, and runs some of them."""
