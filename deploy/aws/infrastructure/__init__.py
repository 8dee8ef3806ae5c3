"""The stacks of Stillpoint on AWS, by concern. `app.py` puts them together; `docs/aws.md` describes them."""
