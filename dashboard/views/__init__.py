"""The pages, one question each; `dashboard/app.py` lists them."""
