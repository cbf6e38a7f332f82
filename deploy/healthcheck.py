"""Exit status 0 when the server of this container answers; needs no curl in the image."""

import http.client
import os
import sys

connection = http.client.HTTPConnection("127.0.0.1", int(os.environ.get("PORT") or 1337), timeout=4)
try:
    connection.request("GET", "/health")
    sys.exit(connection.getresponse().status != 200)
except (OSError, http.client.HTTPException) as error:
    sys.exit(f"the server does not answer: {error}")
