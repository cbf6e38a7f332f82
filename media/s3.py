"""Where bytes are when MEDIA_STORAGE is s3: a bucket of an S3-compatible storage. Needs the extra `s3`."""

from __future__ import annotations

import threading
from typing import IO, Any

from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError
from storages.backends.s3 import S3Storage

CONNECTIONS = 32


class ObjectStorage(S3Storage):  # type: ignore[misc]
    """Files of at most MAX_FILE_BYTES under names that are never used twice."""

    def __init__(self, **options: Any) -> None:
        style = "path" if options.get("endpoint_url") else "auto"
        config = Config(
            connect_timeout=5,
            read_timeout=20,
            retries={"total_max_attempts": 2, "mode": "standard"},
            max_pool_connections=CONNECTIONS,
            signature_version="s3v4",
            s3={"addressing_style": style},
            # Not every compatible storage knows the checksums that newer clients send unasked.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        # In the thread that asks: a request's own thread ends with it.
        transfer = TransferConfig(use_threads=False)
        super().__init__(client_config=config, transfer_config=transfer, max_memory_size=1024 * 1024, **options)
        self._lock = threading.Lock()
        self._shared: Any = None

    @property
    def connection(self) -> Any:
        """One for all threads, which botocore allows of clients: making one takes longer than most answers."""
        with self._lock:
            if self._shared is None:
                self._shared = self._create_session().resource(
                    "s3", region_name=self.region_name, endpoint_url=self.endpoint_url, config=self.client_config
                )
            return self._shared

    def part(self, name: str, start: int, size: int) -> IO[bytes]:
        """A body that is read from the network as it is asked for. Raises FileNotFoundError, ClientError."""
        try:
            found = self.bucket.Object(self._normalize_name(name)).get(Range=f"bytes={start}-{start + size - 1}")
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                raise FileNotFoundError(name) from None
            raise
        body: IO[bytes] = found["Body"]
        return body
