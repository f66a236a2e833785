"""moto's S3 server, with uploads that are conditional one at a time, as they are in S3.

`python s3_server.py PORT`
"""

import sys
import threading
from collections.abc import Iterable
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple


class Server(DomainDispatcherApplication):
    """moto looks whether an object exists and then writes it: two threads may both find none."""

    def __init__(self, create_app: Any):
        super().__init__(create_app)
        self.one_at_a_time = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if "HTTP_IF_NONE_MATCH" not in environ:
            return super().__call__(environ, start_response)
        with self.one_at_a_time:
            return super().__call__(environ, start_response)


if __name__ == "__main__":
    run_simple("127.0.0.1", int(sys.argv[1]), Server(create_backend_app), threaded=True)
