// Dictating: a recording becomes words in the message box.

import { useEffect, useRef, useState } from "preact/hooks";
import { page, request } from "./api.js";
import { _ } from "./i18n.js";
import { Icon, Tap, focusBox, html } from "./ui.js";

const LONGEST_SECONDS = 600;
const BARS = 24;
const KINDS = ["audio/webm;codecs=opus", "audio/ogg;codecs=opus", "audio/mp4"];
const NAMES = { webm: "webm", ogg: "ogg", mp4: "m4a" };
const REFUSED = {
  NotAllowedError: _("The browser does not let this page use the microphone."),
  NotFoundError: _("No microphone was found."),
  NotReadableError: _("The microphone is in use elsewhere."),
};

/** A recording that is being made. */
class Recording {
  /** @type {Blob[]} */
  #pieces = [];

  /** @param {MediaStream} stream */
  constructor(stream) {
    this.stream = stream;
    const mimeType = KINDS.find((kind) => MediaRecorder.isTypeSupported(kind));
    this.recorder = new MediaRecorder(stream, mimeType ? { mimeType } : {});
    this.recorder.ondataavailable = ({ data }) => this.#pieces.push(data);
    this.recorder.start(1000);
    this.sound = new AudioContext();
    this.analyser = this.sound.createAnalyser();
    this.analyser.fftSize = 512;
    this.sound.createMediaStreamSource(stream).connect(this.analyser);
  }

  /** How loud it is now, 0 to 1. */
  level() {
    const samples = new Uint8Array(this.analyser.fftSize);
    this.analyser.getByteTimeDomainData(samples);
    const power = samples.reduce((sum, sample) => sum + ((sample - 128) / 128) ** 2, 0) / samples.length;
    return Math.min(1, Math.sqrt(power) * 3);
  }

  /** @returns {Promise<File>} */
  async finished() {
    if (this.recorder.state !== "inactive") {
      const stopped = new Promise((resolve) => this.recorder.addEventListener("stop", resolve, { once: true }));
      this.recorder.stop();
      await stopped;
    }
    this.close();
    const type = this.recorder.mimeType.split(";")[0] || "audio/webm";
    const ending = NAMES[/** @type {"webm"} */ (type.split("/")[1])] ?? "webm";
    return new File(this.#pieces, `dictated.${ending}`, { type });
  }

  close() {
    if (this.recorder.state !== "inactive") this.recorder.stop();
    for (const track of this.stream.getTracks()) track.stop();
    if (this.sound.state !== "closed") this.sound.close();
  }
}

/** @param {File} file @param {AbortSignal} signal @returns {Promise<string>} */
async function written(file, signal) {
  const form = new FormData();
  form.append("model", page.can.hear.model);
  form.append("provider", page.can.hear.provider);
  form.append("response_format", "json");
  form.append("file", file);
  const response = await request("POST", "/v1/audio/transcriptions", undefined, { body: form, signal });
  return (await response.json()).text?.trim() ?? "";
}

/** @param {{insert: (text: string) => void, close: () => void}} props */
export function Dictation({ insert, close }) {
  const [state, setState] = useState("asking");
  const [fault, setFault] = useState("");
  const [levels, setLevels] = useState(/** @type {number[]} */ ([]));
  const [seconds, setSeconds] = useState(0);
  const work = useRef({ recording: /** @type {Recording | null} */ (null), abort: new AbortController() });
  const button = useRef(/** @type {HTMLButtonElement | null} */ (null));
  const leave = () => {
    close();
    focusBox();
  };
  const failed = (/** @type {any} */ error) => {
    if (error.name === "AbortError") return;
    setFault(REFUSED[/** @type {"NotFoundError"} */ (error.name)] ?? error.message);
    setState("failed");
  };
  const done = async () => {
    const { recording, abort } = work.current;
    if (!recording || abort.signal.aborted) return;
    setState("writing");
    try {
      const file = await recording.finished();
      if (!file.size) throw new Error(_("Nothing was recorded."));
      const text = await written(file, abort.signal);
      if (abort.signal.aborted) return;
      if (!text) throw new Error(_("Nothing was understood."));
      insert(text);
      leave();
    } catch (error) {
      failed(error);
    }
  };
  useEffect(() => {
    const { abort } = work.current;
    navigator.mediaDevices.getUserMedia({ audio: true }).then((stream) => {
      if (abort.signal.aborted) {
        for (const track of stream.getTracks()) track.stop();
        return;
      }
      work.current.recording = new Recording(stream);
      setState("recording");
    }).catch(failed);
    const keyed = (/** @type {KeyboardEvent} */ event) => {
      if (event.key !== "Escape") return;
      event.preventDefault();
      event.stopPropagation();
      leave();
    };
    addEventListener("keydown", keyed, true);
    return () => {
      removeEventListener("keydown", keyed, true);
      abort.abort();
      work.current.recording?.close();
    };
  }, []);
  useEffect(() => {
    if (state !== "recording") return undefined;
    button.current?.focus();
    const began = Date.now();
    const timer = setInterval(() => {
      const passed = Math.floor((Date.now() - began) / 1000);
      setSeconds(passed);
      setLevels((known) => [...known.slice(1 - BARS), work.current.recording?.level() ?? 0]);
      if (passed >= LONGEST_SECONDS) done();
    }, 80);
    return () => clearInterval(timer);
  }, [state]);
  return html`<div class="dictation" role="group" aria-label=${_("Dictation")}>
    <${Tap} icon="close" label=${state === "failed" ? _("Close") : _("Cancel dictation")} keys="Escape" onClick=${leave} />
    ${state === "failed" ? html`<p class="err" role="alert">${fault}</p>` : html`<${Meter} levels=${levels} />
      <span class="mute" role="status">${WORDS[/** @type {"asking"} */ (state)]}</span>`}
    <span class="push"></span>
    ${state === "recording" && html`<span class="mute clock" aria-hidden="true">${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}</span>`}
    ${state !== "failed" && html`<button type="button" class="go" aria-label=${_("Write it down")} title=${_("Write it down")} ref=${button}
      disabled=${state !== "recording"} onClick=${done}><${Icon} name="check" /></button>`}
  </div>`;
}

const WORDS = { asking: _("Waiting for the microphone"), recording: _("Listening"), writing: _("Writing it down") };

/** @param {{levels: number[]}} props the last ones, the newest at the end */
function Meter({ levels }) {
  const known = [...Array(BARS - levels.length).fill(0), ...levels];
  return html`<svg class="meter" viewBox=${`0 0 ${BARS * 4} 24`} width=${BARS * 4} height="24" aria-hidden="true">
    ${known.map((level, at) => {
      const height = Math.max(2, Math.round(level * 22));
      return html`<rect x=${at * 4} y=${12 - height / 2} width="2" height=${height} rx="1" />`;
    })}</svg>`;
}
