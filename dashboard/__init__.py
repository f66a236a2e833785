"""The dashboard of a run folder: `streamlit run dashboard/app.py -- [RUN]`.

It reads the Parquet files through DuckDB and imports neither torch nor Ray: `run` and `pictures`
read, `charts` draws, `state` keeps the choices in the URL, and each file in `views` is one page.
"""
