"""The dashboard of a run folder: `streamlit run dashboard/app.py -- [RUN]`.

It reads the Parquet files through DuckDB and starts without torch and Ray: `run` and `pictures`
read, `charts` draw, `state` keeps the choices in the URL, and each file of `views` is one page.
"""
