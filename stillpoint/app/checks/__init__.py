"""What can be wrong with an app: each module looks at one kind of declaration and yields its faults."""
