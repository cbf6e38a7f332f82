"""The program that opens a stranger's file: one file in, Markdown out, and then it ends.

Arguments: kind, folder, memory in MB, seconds, most bytes of the answer, and "confined" or "unconfined". The file is
standard input. Standard output gets one line of JSON, `{"error", "status", "cut"}`, and then the text. The library's
words about a file stay in here.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import IO

from media.convert import archive, confine, documents, opendocument, simple
from media.convert.errors import ConversionError, Unsupported

# No files of the server's, among them its environment in /proc, and no way out.
ENOUGH = ({"landlock", "seccomp"}, {"landlock", "namespace"})
FILE_BYTES = archive.MAX_BYTES
UNCONFINED = (
    "This server cannot shut the reading of files off from the network and its own files, so documents are not read "
    "here. DOCUMENTS_UNCONFINED=1 allows it all the same."
)


def main(arguments: list[str]) -> None:
    kind, folder, memory, seconds, most, wanted = arguments
    confine.limit(int(memory) << 20, int(seconds), FILE_BYTES)
    layers = confine.confine(folder)
    error, status, text = "", 0, ""
    try:
        if wanted == "confined" and not any(enough <= layers for enough in ENOUGH):
            raise Unsupported(UNCONFINED)
        text = _text(kind, sys.stdin.buffer, Path(folder))
    except ConversionError as failed:
        error, status = failed.message, failed.status
    except (MemoryError, RecursionError):
        error, status = "The file needs too much memory to be read.", 422
    data = text.encode("utf-8", "replace")
    cut = len(data) > int(most)
    if cut:
        # Not in the middle of a character.
        data = data[: int(most)].decode("utf-8", "ignore").encode()
    os.write(1, json.dumps({"error": error, "status": status, "cut": cut}).encode() + b"\n")
    with open(1, "wb", closefd=False) as answer:
        answer.write(data)


def _text(kind: str, file: IO[bytes], folder: Path) -> str:
    match kind:
        case "html":
            return simple.from_html(_read(file))
        case "table":
            return simple.from_table(_read(file))
        case "notebook":
            return simple.from_notebook(_read(file))
        case "odt" | "ods" | "odp":
            return opendocument.from_opendocument(kind, file)
        case "picture":
            return documents.from_picture(file)
        case "zip":
            names, skipped = archive.unpack(file, folder)
            return json.dumps({"names": names, "skipped": skipped})
    return documents.from_document(kind, file)


def _read(file: IO[bytes]) -> str:
    """What the parent gives as text is UTF-8: it has looked for the encoding."""
    return file.read().decode("utf-8", "replace")


def run(arguments: list[str]) -> None:
    """`main`, and then the end without the interpreter's: threads of libraries may not come to theirs."""
    main(arguments)
    os._exit(0)
