"""A lock for what parses Python literals, such as the headers in NumPy's files.

Before 3.11.8, CPython's parser may fail where two threads parse at the same time (its issue
106905): an intact file would be taken for a damaged one.
"""

import threading

one_at_a_time = threading.RLock()
