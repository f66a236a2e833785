"""The dashboard of a run folder: `streamlit run dashboard/app.py -- [RUN]`.

It reads the Parquet files through DuckDB and imports neither torch nor Ray: `run` and `pictures`
read, `bench.charts` draws, `state` keeps the choices in the URL, each file in `views` is one page.
"""
