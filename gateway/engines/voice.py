"""Speaks with espeak-ng and listens with pocketsphinx, in a process of its own for each request.

Neither library may be used from two threads, and both read what strangers send: here a fault harms nobody else. The
interpreter may be another one than ours (LOCAL_ENGINE_PYTHON), so nothing of ours is imported.

Standard input has a line of JSON, then the recording. Standard output has the sound, or the transcript as JSON. What
cannot be done ends with status 3 and one line `PARAM: sentence` on standard error.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import os
import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

REFUSED = 3
PR_SET_PDEATHSIG = 1
# espeak-ng's speak_lib.h.
SYNCHRONOUS, DONT_EXIT, UTF8, BY_CHARACTER, RATE = 2, 0x8000, 1, 1, 1
USUAL_RATE = 175
# OpenAI's `pcm`: 16 bit, one channel.
OUT_RATE, IN_RATE = 24_000, 16_000
BIT = {"mp3": ("MP3", "MPEG_LAYER_III"), "opus": ("OGG", "OPUS"), "flac": ("FLAC", "PCM_16"), "wav": ("WAV", "PCM_16")}
NO_VOICE = "espeak-ng has no such voice or language."
# Languages by their usual codes where espeak-ng has another.
ALIASES = {"zh": "cmn", "no": "nb", "iw": "he", "tl": "fil", "fr": "fr-fr", "en": "en-us"}
# A recording is made as loud as this of the loudest. The noise is in units of 16-bit samples: -50 dB.
LOUD, MAX_GAIN, NOISE = 0.7, 20.0, 100
CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
MAX_SECONDS = 4 * 3600
CPU_SECONDS = 1800
MEMORY_BYTES = 4 * 2**30


def refuse(param: str, sentence: str) -> NoReturn:
    sys.stderr.write(f"\n{param}: {sentence}\n")
    sys.stderr.flush()
    os._exit(REFUSED)


def library() -> tuple[ctypes.CDLL, int]:
    """espeak-ng, ready, and its samples per second."""
    import espeakng_loader

    found = ctypes.CDLL(espeakng_loader.get_library_path())
    data = os.fsencode(espeakng_loader.get_data_path())
    rate = found.espeak_Initialize(SYNCHRONOUS, 0, data, DONT_EXIT)
    if rate <= 0:
        raise OSError("espeak-ng could not be initialised")
    return found, rate


class Voice(ctypes.Structure):
    """espeak_VOICE. `languages` are a byte of priority and a name each, until a priority of 0."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("languages", ctypes.POINTER(ctypes.c_char)),
        ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("xx1", ctypes.c_ubyte),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    )


def languages_of(voice: Voice) -> Iterator[tuple[int, str]]:
    at = ctypes.cast(voice.languages, ctypes.c_void_p).value or 0
    while priority := ctypes.string_at(at, 1)[0]:
        name = ctypes.string_at(at + 1)
        yield priority, name.decode().lower()
        at += len(name) + 2


def identifier(espeak: ctypes.CDLL, wanted: str) -> bytes:
    """espeak-ng's own name for `LANGUAGE` or `LANGUAGE+VARIANT`, such as de or en-us+f3. Ends here without one."""
    language, _, variant = wanted.partition("+")
    if variant and not has_variant(variant):
        refuse("voice", NO_VOICE)
    espeak.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(Voice))
    listed = espeak.espeak_ListVoices(None)
    found: dict[str, tuple[int, bytes]] = {}
    number = 0
    while listed[number]:
        voice = listed[number].contents
        for priority, name in languages_of(voice):
            if name not in found or priority < found[name][0]:
                found[name] = priority, voice.identifier
        number += 1
    name = ALIASES.get(language.lower(), language.lower())
    best = found.get(name) or min((at for key, at in found.items() if key.startswith(name + "-")), default=None)
    if best is None:
        refuse("voice", NO_VOICE)
    return best[1] + (b"+" + variant.encode() if variant else b"")


def has_variant(name: str) -> bool:
    import espeakng_loader

    folder = Path(espeakng_loader.get_data_path()) / "voices" / "!v"
    return name in {file.name for file in folder.iterdir()}


def samples(text: str, voice: str, speed: float) -> tuple[bytes, int]:
    """16-bit samples and their number per second."""
    espeak, rate = library()
    if espeak.espeak_SetVoiceByName(identifier(espeak, voice)) != 0:
        refuse("voice", NO_VOICE)
    espeak.espeak_SetParameter(RATE, round(USUAL_RATE * speed), 0)
    spoken = bytearray()

    def heard(wave: Any, count: int, events: Any) -> int:
        if wave and count > 0:
            spoken.extend(ctypes.string_at(wave, count * 2))
        return 0

    # Kept by a name until all is spoken: the library holds no reference.
    callback = CALLBACK(heard)
    espeak.espeak_SetSynthCallback(callback)
    data = text.encode()
    status = espeak.espeak_Synth(
        ctypes.c_char_p(data), ctypes.c_size_t(len(data) + 1), 0, BY_CHARACTER, 0, UTF8, None, None
    )
    if status != 0:
        raise OSError(f"espeak_Synth gave {status}")
    espeak.espeak_Synchronize()
    return bytes(spoken), rate


def speak(wanted: dict[str, Any], out: Any) -> None:
    import numpy as np
    import soundfile
    import soxr

    data, rate = samples(wanted["text"], wanted["voice"], wanted["speed"])
    wave = soxr.resample(np.frombuffer(data, dtype=np.int16), rate, OUT_RATE)
    if wanted["format"] == "pcm":
        out.write(wave.astype("<i2").tobytes())
        return
    kind, subtype = BIT[wanted["format"]]
    file = io.BytesIO()
    soundfile.write(file, wave, OUT_RATE, format=kind, subtype=subtype)
    out.write(file.getbuffer())


def recording(data: bytes) -> tuple[bytes, float]:
    """16-bit samples at IN_RATE and the length in seconds."""
    import numpy as np
    import soundfile
    import soxr

    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            rate = file.samplerate
            # Channels are told from damage by their number: nothing real has more.
            if not 1_000 <= rate <= 400_000 or not 1 <= file.channels <= 16:
                refuse("file", "The recording cannot be read.")
            parts, seconds = [], 0.0
            converter = soxr.ResampleStream(rate, IN_RATE, 1, dtype="float32")
            for block in file.blocks(blocksize=rate * 10, dtype="float32", always_2d=True):
                seconds += len(block) / rate
                if seconds > MAX_SECONDS:
                    refuse("file", "The recording is longer than four hours.")
                parts.append(converter.resample_chunk(block.mean(axis=1)))
    except (soundfile.LibsndfileError, RuntimeError):
        refuse("file", "The recording cannot be read: wav, mp3, flac and ogg can.")
    parts.append(converter.resample_chunk(np.zeros(0, dtype=np.float32), last=True))
    return with_noise(parts), seconds


def with_noise(parts: list[Any]) -> bytes:
    """As 16-bit samples, loud enough, over the quiet noise of a room: the model knows no silence without it, and hears
    wrong words in sound that was made by a computer. Part by part: hours of it fit into MEMORY_BYTES."""
    import numpy as np

    peak = max(float(np.abs(part).max(initial=0)) for part in parts)
    gain = min(LOUD / peak, MAX_GAIN) if 0 < peak < LOUD else 1.0
    random = np.random.default_rng(1)

    def noisy(part: Any) -> bytes:
        noise = random.standard_normal(len(part), dtype=np.float32) * NOISE
        return bytes(np.clip(part * (gain * 32767) + noise, -32768, 32767).astype("<i2").tobytes())

    return b"".join(map(noisy, parts))


def parts_of(pcm: bytes) -> Iterator[tuple[float, bytes]]:
    """Where somebody speaks: the beginning in seconds, and the samples."""
    from pocketsphinx import Segmenter

    # The last part ends with silence, or it would be left out.
    padded = pcm + bytes(IN_RATE * 2)
    for part in Segmenter(sample_rate=IN_RATE).segment(io.BytesIO(padded)):
        yield part.start_time, part.pcm


def plain(word: str) -> str:
    """Without the number of the pronunciation; empty for silence and noise."""
    word = word.partition("(")[0]
    return "" if word.startswith(("<", "[", "+")) else word


def listen(wanted: dict[str, Any], data: bytes, out: Any) -> None:
    from pocketsphinx import Decoder

    pcm, seconds = recording(data)
    # pocketsphinx frames are hundredths of a second.
    decoder = Decoder(samprate=IN_RATE, loglevel="FATAL")
    segments, words = [], []
    for start, part in parts_of(pcm):
        decoder.start_utt()
        decoder.process_raw(part, full_utt=True)
        decoder.end_utt()
        found = []
        for entry in decoder.seg() or ():
            if word := plain(entry.word):
                times = {"start": start + entry.start_frame / 100, "end": start + (entry.end_frame + 1) / 100}
                found.append({"text": word, **{name: round(min(at, seconds), 2) for name, at in times.items()}})
        if found:
            text = " ".join(word["text"] for word in found)
            segments.append({"text": text, "start": found[0]["start"], "end": found[-1]["end"]})
            words += found
    out.write(json.dumps({"duration": round(seconds, 3), "segments": segments, "words": words}).encode())


def die_with(parent: int) -> None:
    """Linux kills this process with its parent, also while it computes."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def main() -> None:
    die_with(int(sys.argv[1]))
    # The folder of this file holds modules of ours, which are nobody's business here.
    sys.path.pop(0)
    for kind, amount in ((resource.RLIMIT_CPU, CPU_SECONDS), (resource.RLIMIT_AS, MEMORY_BYTES)):
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(kind, (amount, amount))
    os.nice(5)
    wanted = json.loads(sys.stdin.buffer.readline())
    # What libraries print must not get between the bytes.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    if wanted["do"] == "speak":
        speak(wanted, out)
    else:
        try:
            listen(wanted, sys.stdin.buffer.read(), out)
        except MemoryError:
            refuse("file", "The recording is too long.")
    out.flush()
    # espeak-ng's own threads are not waited for.
    os._exit(0)


if __name__ == "__main__":
    main()
