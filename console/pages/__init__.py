"""The pages, one module each: a reading from `console.reading`, and how it is drawn."""
