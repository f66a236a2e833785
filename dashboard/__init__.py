"""The dashboard of run folders: `streamlit run dashboard/app.py -- [RUN ...]`.

It imports neither torch nor Ray: `reader` reads tables, `run` asks them through DuckDB, `pictures`
and `journal` read other files, `mirror` copies runs from object stores, `bench.charts` draws,
`state` keeps the choices in the URL, each file in `views` is one page.
"""
