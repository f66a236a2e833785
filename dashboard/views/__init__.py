"""One question a page; `dashboard/app.py` lists them."""
